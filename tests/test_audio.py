"""Reading sound: every format, width and rate; every way in which a recording can be bad; noise."""

import os
import pickle
import struct
import time
import tracemalloc
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from graphophone import audio, containers
from graphophone.audio import AudioError, AudioWarning
from graphophone.errors import GraphophoneError

RATE = 16000


def sweep(seconds: float, rate: int = RATE, low: float = 100, high: float = 3000) -> np.ndarray:
    """A tone that glides from ``low`` to ``high`` Hz at a tenth to a half of full scale."""
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (low * t + (high - low) / (2 * seconds) * t**2)
    return ((0.3 + 0.2 * np.sin(5 * t)) * np.sin(phase)).astype(np.float32)


def write(path: Path, signal: np.ndarray, rate: int = RATE, **options: Any) -> Path:
    sf.write(path, signal, rate, **options)
    return path


def fails(reason: str, call: Callable[[], object]) -> AudioError:
    """The error, which must have the reason and be one line."""
    with pytest.raises(AudioError) as caught:
        call()
    assert caught.value.reason == reason, str(caught.value)
    assert "\n" not in str(caught.value)
    assert "; " in caught.value.text, "no remedy"
    return caught.value


# ------------------------------------------------------------------------------------------------ formats

FORMATS = [
    ("wav", "PCM_U8", 0.02),
    ("wav", "PCM_16", 1e-4),
    ("wav", "PCM_24", 1e-6),
    ("wav", "PCM_32", 1e-6),
    ("wav", "FLOAT", 1e-7),
    ("wav", "DOUBLE", 1e-7),
    ("wav", "ULAW", 0.05),
    ("wav", "IMA_ADPCM", 0.1),
    ("wav", "GSM610", 0.3),
    ("flac", "PCM_S8", 0.02),
    ("flac", "PCM_16", 1e-4),
    ("flac", "PCM_24", 1e-6),
    ("aiff", "PCM_24", 1e-6),
    ("au", "PCM_16", 1e-4),
    ("caf", "PCM_16", 1e-4),
    ("w64", "PCM_16", 1e-4),
    ("rf64", "PCM_16", 1e-4),
    ("ogg", "VORBIS", 0.1),
    ("opus", "OPUS", 0.1),
    ("mp3", "MPEG_LAYER_III", 0.1),
]


def write_format(path: Path, signal: np.ndarray, rate: int, subtype: str) -> Path:
    kind = "OGG" if path.suffix == ".opus" else path.suffix[1:].upper()
    return write(path, signal, rate, format=kind, subtype=subtype)


@pytest.mark.parametrize(("suffix", "subtype", "tolerance"), FORMATS)
def test_every_format_gives_the_samples_that_were_written(
    tmp_path: Path, suffix: str, subtype: str, tolerance: float
) -> None:
    signal = sweep(1.0)
    path = write_format(tmp_path / f"a.{suffix}", signal, RATE, subtype)
    waveform = audio.load(path)
    assert waveform.rate == RATE
    assert waveform.signal.dtype == np.float32
    assert waveform.signal.flags.c_contiguous
    assert waveform.path == str(path)
    assert waveform.notes == ()
    found = audio.info(path)
    assert (found.rate, found.channels, found.subtype) == (RATE, 1, subtype)
    assert abs(found.duration - waveform.duration) < 0.08  # MP3 decoders differ in padding
    assert abs(len(waveform.signal) - len(signal)) <= (1152 if suffix == "mp3" else 1000)  # blocks of ADPCM
    n = min(len(signal), len(waveform.signal))
    assert np.sqrt(np.mean((waveform.signal[:n] - signal[:n]) ** 2)) < tolerance


@pytest.mark.parametrize("rate", [8000, 11025, 16001, 22050, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channel_count(tmp_path: Path, rate: int, channels: int) -> None:
    mono = sweep(0.4, rate)
    path = write(tmp_path / "a.wav", np.repeat(mono[:, None], channels, 1), rate, subtype="PCM_24")
    waveform = audio.load(path)
    expected = sweep(0.4)
    assert len(waveform.signal) == len(expected)
    inside = slice(200, -200)  # a resampler cannot know what lies beyond the ends
    np.testing.assert_allclose(waveform.signal[inside], expected[inside], atol=2e-3)
    assert audio.load(path, rate=None).rate == rate


def test_mono_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    left, right = sweep(0.2), sweep(0.2, low=900)
    path = write(tmp_path / "a.wav", np.stack([left, right], 1), subtype="FLOAT")
    np.testing.assert_allclose(audio.load(path).signal, (left + right) / 2, atol=1e-7)


# ------------------------------------------------------------------------------------------------- integers


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_every_width_reads_the_same_level(tmp_path: Path, subtype: str) -> None:
    signal = np.tile(np.array([-1, -0.5, 0, 0.25, 0.5], np.float32), 200)
    np.testing.assert_allclose(audio.load(write(tmp_path / "a.wav", signal, subtype=subtype)).signal, signal, atol=0)


@given(st.data())
def test_integers_are_divided_by_the_full_scale_of_their_width(data: st.DataObject) -> None:
    bits = data.draw(st.sampled_from([8, 16, 32]))
    value = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    values = data.draw(st.lists(value, min_size=1, max_size=20))
    array = np.resize(np.array(values, f"int{bits}"), 400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)
        signal = audio.from_array(array, RATE).signal
    np.testing.assert_allclose(signal, array.astype(np.float64) / 2.0 ** (bits - 1), rtol=1e-6)
    assert np.abs(signal).max() <= 1


def test_unsigned_bytes_are_centred() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), 4)
    np.testing.assert_array_equal(audio.from_array(ramp, RATE).signal, (ramp.astype(float) - 128) / 128)


def test_integer_file_and_array_agree(tmp_path: Path) -> None:
    integers = (sweep(0.3) * 32767).astype(np.int16)
    path = write(tmp_path / "a.wav", integers, subtype="PCM_16")
    np.testing.assert_array_equal(audio.load(path).signal, audio.from_array(integers, RATE).signal)


def test_arrays_take_floats_and_channels_as_they_are() -> None:
    stereo = np.stack([sweep(0.3, 44100), sweep(0.3, 44100, low=500)]).astype(np.float64)
    before = stereo.copy()
    waveform = audio.from_array(stereo, 44100)
    assert (waveform.rate, len(waveform.signal), waveform.path) == (16000, 4800, None)
    expected = audio.resample(stereo.mean(0).astype(np.float32), 44100, 16000)
    np.testing.assert_allclose(waveform.signal, expected, atol=1e-6)
    np.testing.assert_array_equal(stereo, before)


def test_a_waveform_does_not_share_memory_with_the_callers_array() -> None:
    array = sweep(0.1)
    waveform = audio.from_array(array, RATE)
    array[:] = 0
    assert np.abs(waveform.signal).max() > 0.1


@pytest.mark.parametrize(
    ("array", "rate", "reason"),
    [
        (np.zeros((2, 3, 4), np.float32), RATE, "not audio"),
        (np.zeros((16000, 2), np.float32), RATE, "not audio"),
        (np.zeros(16000, np.int64), RATE, "not audio"),
        (np.zeros(16000, complex), RATE, "not audio"),
        (np.ones(16000), 0, "not audio"),
        (np.zeros(0), RATE, "empty"),
        (np.ones(399), RATE, "too short"),
        (np.full(16000, np.nan), RATE, "nan"),
        (np.r_[np.ones(16000), np.inf], RATE, "nan"),
    ],
)
def test_arrays_that_are_no_signal(array: np.ndarray, rate: int, reason: str) -> None:
    assert str(fails(reason, lambda: audio.from_array(array, rate))).startswith("<array>: ")


# -------------------------------------------------------------------------------------------------- segments


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Three seconds of noise, which shows every misplaced sample, at several rates."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    return {
        rate: write(folder / f"{rate}.flac", 0.1 * rng.standard_normal((3 * rate + 17, 2)), rate)
        for rate in (8000, 16000, 16001, 22050, 44100, 96000)
    }


@pytest.mark.parametrize("rate", [8000, 16000, 16001, 22050, 44100, 96000])
@settings(max_examples=40)
@given(a=st.floats(0, 2.9), length=st.floats(0.05, 3))
def test_a_segment_equals_the_slice_of_the_whole(
    recordings: dict[int, Path], rate: int, a: float, length: float
) -> None:
    whole = audio.load(recordings[rate]).signal
    b = min(a + length, 3.0)
    segment = audio.load(recordings[rate], start=a, end=b).signal
    np.testing.assert_allclose(segment, whole[round(a * RATE) : round(b * RATE)], atol=1e-6)


@settings(max_examples=40)
@given(cuts=st.lists(st.floats(0.1, 2.9), min_size=1, max_size=4, unique_by=lambda x: round(x, 1)))
def test_segments_add_up_to_the_whole(recordings: dict[int, Path], cuts: list[float]) -> None:
    edges: list[float | None] = [None, *sorted(cuts), None]
    pieces = [audio.load(recordings[44100], start=a, end=b).signal for a, b in pairwise(edges)]
    np.testing.assert_allclose(np.concatenate(pieces), audio.load(recordings[44100]).signal, atol=1e-6)


def test_nan_means_no_limit_as_in_tables(recordings: dict[int, Path]) -> None:
    whole = audio.load(recordings[16000]).signal
    np.testing.assert_array_equal(audio.load(recordings[16000], start=float("nan"), end=float("nan")).signal, whole)


def test_a_rounded_end_may_pass_the_recording_by_ten_milliseconds(recordings: dict[int, Path]) -> None:
    assert len(audio.load(recordings[16000], start=2, end=3.01).signal) == RATE + 17
    fails("bad segment", lambda: audio.load(recordings[16000], start=2, end=3.02))


@pytest.mark.parametrize(("start", "end"), [(-0.1, 1), (1, 1), (2, 1), (4, 5), (3.5, None)])
def test_bad_segments(recordings: dict[int, Path], start: float, end: float | None) -> None:
    error = fails("bad segment", lambda: audio.load(recordings[16000], start=start, end=end))
    assert "3.001 s" in str(error)


def test_only_the_segment_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", sweep(60), subtype="PCM_16")
    read: list[int] = []
    original = sf.SoundFile.read

    def counting(self: sf.SoundFile, frames: int = -1, *rest: object, **options: object) -> np.ndarray:
        read.append(frames)
        return original(self, frames, *rest, **options)

    monkeypatch.setattr(sf.SoundFile, "read", counting)
    audio.load(path, rate=8000, start=30, end=31)
    assert sum(read) < 1.2 * RATE
    read.clear()
    audio.info(path)
    assert not read


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_segments_of_mp3_are_exact(tmp_path: Path, mode: str) -> None:
    """An MP3 decoder that starts in the middle lacks the bits of earlier frames: its first frames are wrong."""
    rng = np.random.default_rng(0)
    noise = 0.2 * rng.standard_normal(20 * 44100) * np.repeat(rng.random(200), 4410)
    path = write(tmp_path / "a.mp3", noise, 44100, compression_level=0.5, bitrate_mode=mode)
    whole = audio.load(path, rate=None).signal
    for start in rng.uniform(0, 19, 12):
        first = round(start * 44100)
        segment = audio.load(path, rate=None, start=start, end=start + 0.5).signal
        np.testing.assert_allclose(segment, whole[first : first + len(segment)], atol=1e-5)


# ------------------------------------------------------------------------------------------- bad recordings


def test_missing_folder_and_pipe(tmp_path: Path) -> None:
    error = fails("missing", lambda: audio.load(tmp_path / "no.wav"))
    assert error.path == str(tmp_path / "no.wav")
    assert isinstance(error, GraphophoneError)
    fails("missing", lambda: audio.load(write(tmp_path / "a.wav", sweep(1)) / "b.wav"))
    fails("not audio", lambda: audio.load(tmp_path))
    fails("unreadable", lambda: audio.load("a\0b.wav"))
    os.mkfifo(tmp_path / "pipe.wav")
    fails("unreadable", lambda: audio.load(tmp_path / "pipe.wav"))


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", sweep(1))

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(containers, "inspect", refuse)  # a test run by root could read a file of mode 000
    assert "permission" in str(fails("unreadable", lambda: audio.load(path)))


def test_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", sweep(1))

    def break_down(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(containers, "inspect", break_down)
    assert "Input/output error" in str(fails("unreadable", lambda: audio.info(path)))


def test_errors_can_be_pickled(tmp_path: Path) -> None:
    error = fails("missing", lambda: audio.load(tmp_path / "no.wav"))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(again), again.reason, again.path) == (str(error), error.reason, error.path)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_empty_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.touch()
    fails("empty", lambda: audio.load(path))


@pytest.mark.parametrize("suffix", ["wav", "ogg", "aiff"])
def test_files_without_samples(tmp_path: Path, suffix: str) -> None:
    fails("empty", lambda: audio.load(write(tmp_path / f"a.{suffix}", np.zeros(0))))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "aiff", "raw", "xyz"])
@pytest.mark.parametrize("content", [b"this is a text, not a recording\n" * 200, bytes(5000), b"abc"])
def test_other_files(tmp_path: Path, suffix: str, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    fails("not audio", lambda: audio.load(path))
    fails("not audio", lambda: audio.info(path))
    assert capfd.readouterr().err == ""  # the MP3 decoder likes to talk


@pytest.mark.parametrize(("suffix", "subtype"), [(s, t) for s, t, _ in FORMATS])
@pytest.mark.parametrize("part", [0.99, 0.7, 0.5, 0.03])
def test_cut_files_of_every_format(tmp_path: Path, suffix: str, subtype: str, part: float) -> None:
    """Half a file must never pass for a whole one."""
    path = write_format(tmp_path / f"a.{suffix}", 0.1 * np.random.default_rng(0).standard_normal(48000), RATE, subtype)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    if suffix == "mp3" and part == 0.99:  # less than a frame is let go: encoders disagree on the last one
        assert abs(audio.load(path).duration - 3) < 0.1
        return
    with pytest.raises(AudioError) as caught:
        audio.load(path)
    # With nothing but a piece of the header left, libsndfile knows no sound.
    assert caught.value.reason in (("truncated", "not audio") if part == 0.03 else ("truncated",))
    if part > 0.03:
        fails("truncated", lambda: audio.info(path))
        fails("truncated", lambda: audio.load(path, start=0.1, end=0.2))
        fails("truncated", lambda: audio.stream(path, window=1, hop=1))


@pytest.mark.parametrize("cut", [4, 12, 20, 30, 36, 40, 43])
def test_a_cut_inside_the_header(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.wav", sweep(1))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(AudioError) as caught:
        audio.load(path)
    assert caught.value.reason in ("truncated", "not audio")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_sizes_that_programs_write_into_a_pipe_promise_nothing(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "a.wav", sweep(1), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", size)
    path.write_bytes(content)
    assert audio.load(path).duration == 1


def test_a_recorder_that_was_not_closed_left_no_length(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", sweep(1), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[40:44] = bytes(4)
    path.write_bytes(content)
    fails("empty", lambda: audio.load(path))


def test_a_chunk_after_the_samples_may_be_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", sweep(1), subtype="PCM_16")
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 100) + b"abc")
    assert audio.load(path).duration == 1


def test_a_chunk_without_its_byte_of_padding(tmp_path: Path) -> None:
    """libsndfile does not find the samples then; that must be an error and no endless search."""
    path = write(tmp_path / "a.wav", sweep(1), subtype="PCM_16")
    content = path.read_bytes()
    path.write_bytes(content[:36] + b"LIST" + struct.pack("<I", 3) + b"abc" + content[36:])
    assert not containers.inspect(path).truncated
    nothing = write(tmp_path / "a.w64", sweep(1), format="W64")
    content = nothing.read_bytes()
    nothing.write_bytes(content[:56] + bytes(8) + content[64:])
    assert not containers.inspect(nothing).truncated


def test_programs_that_count_their_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", sweep(1), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", 2 * RATE + 36)
    path.write_bytes(content)
    assert audio.load(path).duration == 1


def test_ogg_without_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ogg", 0.1 * np.random.default_rng(0).standard_normal(48000))
    content = path.read_bytes()
    path.write_bytes(content + b"TAG" + bytes(125))  # what some taggers append
    assert audio.load(path).duration == 3
    path.write_bytes(content[: content.rindex(b"OggS")])  # cut exactly between two pages
    assert "mark of the end" in str(fails("truncated", lambda: audio.load(path)))


def test_a_damaged_flac(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", 0.1 * np.random.default_rng(0).standard_normal(20 * RATE), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "damaged" in str(fails("unreadable", lambda: audio.load(path)))
    windows = audio.stream(path, window=1, hop=1)
    fails("unreadable", lambda: list(windows))
    assert audio.load(path, start=1, end=2).duration == 1  # away from the damage


def unknown_length_flac(path: Path, signal: np.ndarray) -> Path:
    """A FLAC stream as a program writes it into a pipe: 36 bits of the header count the samples, or are 0."""
    content = bytearray(write(path, signal, subtype="PCM_16").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    return path


def test_flac_of_unknown_length(tmp_path: Path) -> None:
    signal = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE + 123)
    whole = audio.load(write(tmp_path / "known.flac", signal, subtype="PCM_16")).signal
    path = unknown_length_flac(tmp_path / "a.flac", signal)
    assert audio.info(path).frames == len(signal)
    np.testing.assert_array_equal(audio.load(path).signal, whole)
    np.testing.assert_array_equal(audio.load(path, start=2.5).signal, whole[40000:])
    path.write_bytes(path.read_bytes()[:50000])
    fails("truncated", lambda: audio.load(path))


def without_length_header(path: Path) -> None:
    """Take away the first frame of an MP3 file, the one with the Xing header."""
    content = path.read_bytes()
    first = containers._FRAMES[content[1] << 8 | content[2]][0]
    assert b"Xing" in content[:first] or b"Info" in content[:first]
    path.write_bytes(content[first:])


def test_mp3_without_a_length_header(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(48000)
    constant = write(tmp_path / "constant.mp3", noise, compression_level=0.5, bitrate_mode="CONSTANT")
    without_length_header(constant)
    assert abs(audio.load(constant).duration - 3) < 0.1
    content = constant.read_bytes()
    constant.write_bytes(content + b"TAG" + bytes(125))
    assert abs(audio.info(constant).duration - 3) < 0.1
    constant.write_bytes(content[: len(content) // 2 + 10])  # all frames are equally long: not between two
    fails("truncated", lambda: audio.load(constant))

    # libsndfile takes the first bit rate for that of the whole file and stops reading where it believes the
    # end.
    variable = write(tmp_path / "variable.mp3", noise, compression_level=0.5, bitrate_mode="VARIABLE")
    without_length_header(variable)
    assert sf.info(variable).duration < 2
    assert "can be decoded" in str(fails("unreadable", lambda: audio.load(variable)))


def test_mp3_with_a_tag_and_a_picture_in_front(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", sweep(2))
    size = 70000  # longer than the search for the first frame, so that the tag's own length must be used
    tag = b"ID3\x04\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0)) + b"\xff\xfb\x90" + bytes(size - 3)
    content = path.read_bytes()
    path.write_bytes(tag + content)
    assert abs(audio.load(path).duration - 2) < 0.08
    path.write_bytes(tag + content[: len(content) // 2])
    fails("truncated", lambda: audio.load(path))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_samples(tmp_path: Path, value: float) -> None:
    signal = sweep(2)
    signal[24000] = value
    path = write(tmp_path / "a.wav", signal, subtype="FLOAT")
    assert "1.500 s" in str(fails("nan", lambda: audio.load(path)))
    fails("nan", lambda: list(audio.stream(path, window=1, hop=1)))
    assert audio.load(path, end=1).duration == 1


def test_too_short_and_too_long(tmp_path: Path) -> None:
    short = write(tmp_path / "short.wav", sweep(0.01, 44100), 44100)
    assert "10.0 ms" in str(fails("too short", lambda: audio.load(short)))
    assert len(audio.load(short, min_duration=0).signal) == 160
    fails("too short", lambda: audio.stream(short, window=1, hop=1))
    exact = write(tmp_path / "exact.wav", sweep(0.025))
    assert len(audio.load(exact).signal) == 400
    long = write(tmp_path / "long.wav", sweep(2))
    fails("too short", lambda: audio.load(long, start=1, end=1.02))
    fails("too long", lambda: audio.load(long, max_duration=1.5))
    assert audio.load(long, max_duration=1.5, end=1.5).duration == 1.5
    one_frame = write(tmp_path / "one.wav", np.ones(1), 96000)
    fails("too short", lambda: audio.load(one_frame, min_duration=0))


def test_silence_is_a_warning(tmp_path: Path) -> None:
    for level in (0, 5e-5):
        path = write(tmp_path / "a.wav", level * np.sin(np.arange(RATE)) + 0.1, subtype="PCM_16")  # with an offset
        with pytest.warns(AudioWarning, match=r"a\.wav: silent"):
            assert audio.load(path).notes == ("silent",)
    with pytest.warns(AudioWarning, match="silent"):
        assert audio.from_array(np.zeros(1000, np.int16), RATE).notes == ("silent",)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
def test_clipping_is_a_warning(tmp_path: Path, subtype: str) -> None:
    """Three equal samples in a row at full scale; a tone that just touches full scale has none."""
    tone = np.sin(2 * np.pi * 220.3 * np.arange(44100) / 44100)
    loud = np.stack([np.clip(1.2 * tone, -1, 1), 0.1 * tone], 1)
    path = write(tmp_path / "a.wav", loud, 44100, subtype=subtype)
    with pytest.warns(AudioWarning, match=r"a\.wav: clipped"):
        assert audio.load(path).notes == ("clipped",)
    if subtype != "PCM_U8":  # 8 bits are so coarse that the top of a tone is flat
        assert audio.load(write(tmp_path / "b.wav", tone * 0.99999, 44100, subtype=subtype)).notes == ()


def test_integers_that_were_turned_into_floats_unscaled_are_a_warning() -> None:
    with pytest.warns(AudioWarning, match="32768"):
        assert audio.from_array(20000 * sweep(0.5), RATE).notes == ("over range",)


def test_find_audio(tmp_path: Path) -> None:
    for name in ("b.WAV", "a/c.flac", "a/._c.flac", ".hidden/d.wav", "notes.txt", "e.mp3", "a/b/f.opus"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in audio.find_audio(tmp_path)]
    assert found == ["a/b/f.opus", "a/c.flac", "b.WAV", "e.mp3"]
    fails("missing", lambda: audio.find_audio(tmp_path / "nowhere"))


# ---------------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("rate", [8000, 16000, 16001, 22050, 44100, 96000])
@pytest.mark.parametrize(("window", "hop"), [(1.0, 0.25), (0.7, 0.7), (0.1, 0.333), (0.5, 1.3), (10, 1)])
def test_windows_are_slices_of_the_whole(recordings: dict[int, Path], rate: int, window: float, hop: float) -> None:
    whole = audio.load(recordings[rate]).signal
    windows = list(audio.stream(recordings[rate], window=window, hop=hop))
    length = round(window * RATE)
    for k, (start, signal) in enumerate(windows):
        assert start == k * hop
        first = round(k * hop * RATE)
        np.testing.assert_allclose(signal, whole[first : first + length], atol=1e-4)
        assert signal.dtype == np.float32
    assert all(len(signal) == length for _, signal in windows[:-1])
    last = round((len(windows) - 1) * hop * RATE)
    following = round(len(windows) * hop * RATE)
    # The windows end with the first that reaches the end, or leave less than 25 ms of the recording.
    assert last + length >= len(whole) or following > len(whole) - 400


@given(
    seconds=st.floats(0.03, 3), window=st.floats(0.03, 1.5), hop=st.floats(0.01, 2), rate=st.sampled_from([8000, 11025])
)
def test_windows_of_any_recording(
    tmp_path_factory: pytest.TempPathFactory, seconds: float, window: float, hop: float, rate: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.wav"
    write(path, 0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate) + 1), rate)
    whole = audio.load(path, rate=8000).signal
    length = round(window * 8000)
    windows = list(audio.stream(path, rate=8000, window=window, hop=hop))
    covered = np.zeros(len(whole), bool)
    for k, (start, signal) in enumerate(windows):
        first = round(k * hop * 8000)
        assert start == k * hop
        np.testing.assert_allclose(signal, whole[first : first + length], atol=1e-4)
        covered[first : first + length] = True
    # Every sample is in a window, but for the gaps between windows (hop > window) and a last piece below 25
    # ms.
    position = np.arange(len(whole))
    nearest = np.round(np.floor(position / (hop * 8000) + 1e-9) * hop * 8000)
    gap = position - nearest >= length - 1
    assert (covered | gap | (position >= len(whole) - 201)).all()


def test_stream_of_mp3_is_the_recording(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """soundfile's own block reading seeks after each block, after which the decoder lacks bits."""
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a.mp3", 0.2 * rng.standard_normal(20 * 44100), 44100)
    whole = audio.load(path).signal
    with sf.SoundFile(path) as file:
        direct = file.read(dtype="float32")
    np.testing.assert_allclose(audio.load(path, rate=None).signal, direct, atol=1e-6)
    pieces = [signal for _, signal in audio.stream(path, window=0.5, hop=0.5)]
    np.testing.assert_allclose(np.concatenate(pieces), whole[: sum(map(len, pieces))], atol=1e-4)
    assert capfd.readouterr().err == ""


def test_a_window_can_be_overwritten(recordings: dict[int, Path]) -> None:
    whole = audio.load(recordings[8000]).signal
    for start, signal in audio.stream(recordings[8000], window=1, hop=0.5):
        first = round(start * RATE)
        np.testing.assert_allclose(signal, whole[first : first + RATE], atol=1e-4)
        signal[:] = 7


def test_bad_windows(recordings: dict[int, Path]) -> None:
    for window, hop in ((0.01, 1), (1, 0), (1, -1)):
        with pytest.raises(ValueError, match="window"):
            audio.stream(recordings[16000], window=window, hop=hop)


def long_recording(path: Path, hours: float, rate: int) -> Path:
    """A sparse file: a header, a sea of zeros, and a click in the second before the last."""
    frames = round(3600 * hours * rate)
    header = b"RIFF" + struct.pack("<I", 36 + 2 * frames) + b"WAVEfmt "
    header += struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16) + b"data" + struct.pack("<I", 2 * frames)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(44 + 2 * frames)
        file.seek(44 + 2 * (frames - 2 * rate))
        file.write(struct.pack("<h", 16384))
    return path


def peak_memory(path: Path) -> tuple[int, int, list[float]]:
    """Bytes allocated at most, number of windows, and the starts of those with sound."""
    tracemalloc.start()
    count, loud = 0, []
    for start, signal in audio.stream(path, window=4, hop=2):
        count += 1
        if np.abs(signal).max() > 0.01:
            loud.append(start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, count, loud


def test_memory_of_a_stream_does_not_grow(tmp_path: Path) -> None:
    peaks = []
    for hours in (0.05, 0.5):
        peak, count, loud = peak_memory(long_recording(tmp_path / "a.wav", hours, 44100))
        seconds = 3600 * hours
        assert count == seconds / 2 - 1
        assert loud == [seconds - 4]  # the click lies 2 s before the end, at the start of no other window
        peaks.append(peak)
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 8e6


@pytest.mark.slow
def test_ten_hours(tmp_path: Path) -> None:
    peak, count, loud = peak_memory(long_recording(tmp_path / "a.wav", 10, 16000))
    assert (count, loud) == (17999, [35996.0])
    assert peak < 8e6


def test_headers_are_cheap(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", 0.1 * np.random.default_rng(0).standard_normal(300 * RATE))
    began = time.perf_counter()
    for _ in range(20):
        assert audio.info(path).duration == 300
    quick = (time.perf_counter() - began) / 20
    began = time.perf_counter()
    audio.load(path)
    assert quick < (time.perf_counter() - began) / 5


# ------------------------------------------------------------------------------------------------------ noise


def measured_snr(signal: np.ndarray, mixed: np.ndarray) -> float:
    noise = mixed.astype(np.float64) - signal
    return float(10 * np.log10(np.mean(signal.astype(np.float64) ** 2) / np.mean(noise**2)))


@given(
    snr=st.floats(-20, 40),
    level=st.floats(1e-3, 1),
    n=st.integers(400, 5000),
    m=st.integers(100, 9000),
    seed=st.integers(0, 99),
)
def test_the_ratio_is_the_one_asked_for(snr: float, level: float, n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    signal = (level * rng.standard_normal(n)).astype(np.float32)
    mixed = audio.mix_at_snr(signal, 3 * rng.standard_normal(m), snr)
    assert (mixed.shape, mixed.dtype) == (signal.shape, np.float32)
    assert abs(measured_snr(signal, mixed) - snr) < 0.01


def test_no_ratio_exists_with_silence() -> None:
    tone, silence = sweep(0.1), np.zeros(1600)
    assert fails("silent", lambda: audio.mix_at_snr(silence, tone, 10)).path == "<signal>"
    assert fails("silent", lambda: audio.mix_at_snr(tone, silence, 10)).path == "<noise>"
    fails("empty", lambda: audio.mix_at_snr(tone, np.zeros(0), 10))


def slope(noise: np.ndarray) -> float:
    """Decibels per octave, fitted to the mean power in octave bands from 62.5 Hz to 8 kHz at 16 kHz."""
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(len(noise), 1 / RATE)
    edges = 62.5 * 2.0 ** np.arange(8)
    levels = [10 * np.log10(power[(frequency >= a) & (frequency < b)].mean()) for a, b in pairwise(edges)]
    return float(np.polyfit(np.arange(7), levels, 1)[0])


@pytest.mark.parametrize(("make", "expected"), [(audio.white_noise, 0), (audio.pink_noise, -10 * np.log10(2))])
def test_colour(make: Callable[[int, np.random.Generator], np.ndarray], expected: float) -> None:
    noise = make(20 * RATE + 7, np.random.default_rng(3))
    assert (len(noise), noise.dtype) == (20 * RATE + 7, np.float32)
    assert abs(np.mean(noise.astype(np.float64) ** 2) - 1) < 0.02
    assert abs(slope(noise) - expected) < 0.1


def test_short_noise() -> None:
    for n in (1, 2, 3):
        assert np.isfinite(audio.pink_noise(n, np.random.default_rng(0))).all()


def test_babble_is_made_of_the_talkers() -> None:
    rng = np.random.default_rng(0)
    talkers = [sweep(1 + k / 3, low=100 + 50 * k, high=101 + 50 * k) * 10.0**-k for k in range(4)]
    noise = audio.babble([*talkers, np.zeros(100)], 5 * RATE, rng, talkers=4)
    assert abs(np.mean(noise.astype(np.float64) ** 2) - 1) < 1e-3
    spectrum = np.abs(np.fft.rfft(noise)) ** 2 / len(noise)
    shares = [spectrum[5 * f - 25 : 5 * f + 26].sum() for f in (100, 150, 200, 250)]
    # However loud each was, the four talk equally loud.
    assert max(shares) < 1.5 * min(shares)
    assert sum(shares) > 0.9 * spectrum.sum()
    with pytest.raises(ValueError, match="silent"):
        audio.babble([np.zeros(100)], 100, rng)
    assert len(audio.babble(talkers[:1], 100, rng, talkers=6)) == 100


@pytest.mark.parametrize("kind", ["white", "pink", "babble", "file"])
def test_add_noise(tmp_path: Path, kind: str) -> None:
    waveform = audio.from_array(sweep(1.3), RATE)
    source = write(tmp_path / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(22050), 44100)
    which = source if kind == "file" else kind
    speech: list[np.ndarray | audio.Waveform] = [audio.Waveform(sweep(0.4, 8000), 8000), sweep(0.7)]

    def noisy(seed: int) -> audio.Waveform:
        return audio.add_noise(waveform, which, 5, seed=seed, babble_from=speech if kind == "babble" else None)

    first, same, other = noisy(1), noisy(1), noisy(2)
    np.testing.assert_array_equal(first.signal, same.signal)
    assert np.abs(first.signal - other.signal).max() > 0.01
    assert abs(measured_snr(waveform.signal, first.signal) - 5) < 0.01
    assert (first.rate, first.signal.shape) == (RATE, waveform.signal.shape)


def test_add_noise_names_what_is_wrong(tmp_path: Path) -> None:
    silent = audio.Waveform(np.zeros(RATE, np.float32), RATE, "quiet.wav")
    assert fails("silent", lambda: audio.add_noise(silent, "white", 5)).path == "quiet.wav"
    fails("missing", lambda: audio.add_noise(silent, tmp_path / "no.wav", 5))
    with pytest.raises(ValueError, match="babble_from"):
        audio.add_noise(silent, "babble", 5)


# ----------------------------------------------------------------------------------------------- real corpora


@pytest.mark.data
def test_real_recordings_are_whole(data_root: Path) -> None:
    paths = audio.find_audio(data_root)
    assert paths
    for path in paths[:: max(1, len(paths) // 150)]:
        found = audio.info(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)
            assert abs(audio.load(path).duration - found.duration) < 1e-4
