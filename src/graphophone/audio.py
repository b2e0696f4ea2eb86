"""Sound in: any file as a mono float32 signal at the rate you ask for, whole, in segments or in windows.

Reading is done by libsndfile (``soundfile``) and resampling by soxr. A recording that cannot be used raises
`AudioError`, whose text is one line with the file, what is wrong and what to do; a recording that can be used
but looks wrong (silent, clipped) gives an `AudioWarning` and a word in `Waveform.notes`.
"""

from __future__ import annotations

import math
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.fft
import soundfile as sf
import soxr

from graphophone import containers
from graphophone.errors import GraphophoneError
from graphophone.levels import active_power

Reason = Literal[
    "missing",
    "empty",
    "truncated",
    "not audio",
    "nan",
    "too short",
    "too long",
    "bad segment",
    "unreadable",
    "silent",
]
PathLike = str | os.PathLike[str]

AUDIO_SUFFIXES: frozenset[str] = frozenset(
    {
        *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd"),
        *(".caf", ".w64", ".rf64"),
    }
)

SHORTEST = 0.025
"""Seconds: one analysis frame; a shorter recording has no frame at all."""

_SILENCE = 1e-4  # peak, about -80 dB below full scale: three steps of a 16-bit converter
_FULL_SCALE = 0.98  # below the largest positive value of 8 bits (127 / 128)
_CLIPPED_SHARE = 1e-4
_OVER_RANGE = 8.0  # peaks of lossy codecs and of resampling stay below 2; unscaled 8-bit integers reach 127
_SEGMENT_SLACK = 0.010  # seconds by which the rounded `end` of an annotation may pass the recording's
_BLOCK = 1 << 16  # frames per read: memory stays small for many channels and long files
_MPEG_SLACK = 2 * 1152  # frames: encoders disagree on whether their padding counts
_MPEG_RUN_UP = 0.5  # seconds: a frame of an MP3 file needs the bits of up to ten frames before it
_UNKNOWN_LENGTH = 1 << 60  # libsndfile says 2 ** 63 - 1 of a FLAC stream that was written into a pipe


class AudioWarning(UserWarning):
    """A recording that can be used but looks wrong: silent, clipped, or far outside [-1, 1]."""


class AudioError(GraphophoneError):
    """A recording that cannot be used.

    Attributes:
        path: The file, or ``"<array>"``.
        reason: One of ``"missing"``, ``"empty"``, ``"truncated"``, ``"not audio"``, ``"nan"``,
            ``"too short"``, ``"too long"``, ``"bad segment"``, ``"unreadable"``; ``"silent"`` from
            `mix_at_snr` and `add_noise` only.
        text: What is wrong and what to do.
    """

    def __init__(self, path: str, reason: Reason, text: str) -> None:
        super().__init__(path, reason, text)  # all three, so that the error can be pickled by worker processes
        self.path = path
        self.reason = reason
        self.text = text

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
        path: The file.
        duration: Seconds.
        rate: Samples per second and channel.
        channels: Number of channels.
        frames: Samples per channel.
        format: libsndfile's name of the container, such as ``"WAV"``.
        subtype: libsndfile's name of the encoding, such as ``"PCM_16"``.
    """

    path: str
    duration: float
    rate: int
    channels: int
    frames: int
    format: str
    subtype: str


@dataclass(frozen=True, eq=False)
class Waveform:
    """A mono signal.

    Attributes:
        signal: `[samples]` float32, full scale at 1.0. Lossy codecs and resampling overshoot it a little;
            nothing is cut off.
        rate: Samples per second.
        path: The file it came from, or None.
        notes: What looks wrong with it: ``"silent"``, ``"clipped"``, ``"over range"``.
    """

    signal: np.ndarray
    rate: int
    path: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.signal) / self.rate


# ------------------------------------------------------------------------------------------- opening, headers


def find_audio(folder: PathLike) -> list[Path]:
    """Every file under ``folder`` that has the suffix of an audio file (`AUDIO_SUFFIXES`), sorted by path.

    Hidden files and folders are left out, among them the ``._name.wav`` files that macOS puts into archives.

    Raises:
        AudioError: If there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise AudioError(str(root), "missing", "there is no such folder; check the path")
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )


def info(path: PathLike) -> AudioInfo:
    """What the header of a file says: duration, rate, channels, format.

    A cut file is noticed as in `load`, for FLAC by a seek to the last sample (under a millisecond). Nothing
    is decoded, but for a FLAC stream that was written into a pipe and does not know its length.

    Raises:
        AudioError: If the file is missing, empty, truncated, unreadable or not audio.
    """
    with _open(path) as (file, frames):
        return AudioInfo(
            path=os.fspath(path),
            duration=frames / file.samplerate,
            rate=file.samplerate,
            channels=file.channels,
            frames=frames,
            format=file.format,
            subtype=file.subtype,
        )


class _Recording(sf.SoundFile):
    """A sound file that is read from front to back.

    After each read of a file that it takes for seekable, soundfile seeks to where it already is. A seek
    empties the bit reservoir of the MP3 decoder, so that an MP3 file read in blocks would have wrong samples
    at the head of each block; and it fails at the end of a FLAC stream of unknown length.
    """

    def seekable(self) -> bool:
        """No, to keep soundfile from seeking."""
        return False

    def skip_to(self, frame: int) -> None:
        """Go to ``frame`` from the beginning, by a seek where that is exact and by decoding where it is not."""
        run_up = round(_MPEG_RUN_UP * self.samplerate) if self.format == "MP3" else 0
        if frame > run_up and super().seekable() and self.frames < _UNKNOWN_LENGTH:
            self.seek(frame - run_up)
            frame = run_up
        while frame > 0 and (got := len(self.read(min(_BLOCK, frame), dtype="float32"))):
            frame -= got


@contextmanager
def _open(path: PathLike) -> Iterator[tuple[_Recording, int]]:
    """The open file and its number of frames, after every check that needs no decoding."""
    name = os.fspath(path)
    try:
        status = Path(name).stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(
                name, "not audio", "is a folder; name a file in it (graphophone.audio.find_audio lists them)"
            )
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(name, "unreadable", "is not a regular file; copy the sound into a file first")
        if status.st_size == 0:
            raise AudioError(name, "empty", "the file has 0 bytes; copy or download it again")
        inspection = containers.inspect(Path(name))
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError(name, "missing", "there is no such file; check the path") from None
    except PermissionError:
        raise AudioError(name, "unreadable", "no permission to read it; change its permissions") from None
    except (OSError, ValueError) as error:
        raise AudioError(name, "unreadable", f"cannot be read ({error}); check the disk and the path") from None
    if inspection.truncated:
        raise _truncated(name, inspection.truncated)
    not_audio = AudioError(
        name,
        "not audio",
        "libsndfile finds no sound in it; remove it, or convert it with `ffmpeg -i FILE FILE.flac`",
    )
    if inspection.foreign:
        raise not_audio
    try:
        file = _Recording(name)
    except (sf.LibsndfileError, TypeError):  # TypeError: of a file named .raw soundfile wants to know the rate
        raise not_audio from None
    with file:
        frames = file.frames if inspection.frames is None else inspection.frames
        if frames == 0:
            raise AudioError(name, "empty", "its header counts no samples; record or export it again")
        if frames > _UNKNOWN_LENGTH:
            frames = _count_frames(name)
        if inspection.frames is not None and file.frames < inspection.frames - _MPEG_SLACK:
            raise AudioError(
                name,
                "unreadable",
                f"only {file.frames / file.samplerate:.2f} of {frames / file.samplerate:.2f} s can be decoded, "
                "for want of a header with the length; convert it with `ffmpeg -i FILE FILE.flac`",
            )
        if file.format == "FLAC" and file.frames < _UNKNOWN_LENGTH:
            try:
                file.seek(frames - 1)
                file.read(1, dtype="float32")
                file.seek(0)
            except sf.LibsndfileError:
                promised = f"the header promises {frames / file.samplerate:.2f} s"
                raise _truncated(name, f"{promised} and the end cannot be decoded") from None
        yield file, frames


def _count_frames(name: str) -> int:
    """Length of a recording whose header does not say it, by decoding it."""
    count = 0
    with _Recording(name) as file:
        try:
            while got := len(file.read(_BLOCK, dtype="float32")):
                count += got
        except sf.LibsndfileError:
            what = f"it cannot be decoded beyond {count / file.samplerate:.2f} s"
            raise _truncated(name, what) from None
    return count


def _truncated(name: str, what: str) -> AudioError:
    return AudioError(name, "truncated", f"truncated, {what}; copy or download it again")


def _blocks(file: _Recording, first: int, count: int, name: str) -> Iterator[np.ndarray]:
    """Frames ``first`` to ``first + count`` as blocks `[frames, channels]` of finite float32 numbers.

    libsndfile divides integers by the full scale of their width, whatever it is.
    """
    position = first
    end = first + count
    try:
        file.skip_to(first)
        while position < end:
            block = file.read(min(_BLOCK, end - position), dtype="float32", always_2d=True)
            if not len(block):
                break
            if not np.isfinite(block).all():
                good = int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
                if good:
                    yield block[:good]  # a stream uses what lies before the damage
                where = f"the first at {(position + good) / file.samplerate:.3f} s"
                raise AudioError(name, "nan", f"holds NaN or infinite samples ({where}); export it again")
            position += len(block)
            yield block
    except sf.LibsndfileError as error:
        raise AudioError(
            name,
            "unreadable",
            f"damaged, it cannot be decoded beyond {position / file.samplerate:.2f} s (code {error.code}); "
            "copy or download it again",
        ) from None
    if position == first or position < end - (_MPEG_SLACK if file.format == "MP3" else 0):
        promised, there = end / file.samplerate, position / file.samplerate
        raise _truncated(name, f"{promised:.2f} s are promised and {there:.2f} s are there")


# ---------------------------------------------------------------------------------------------------- loading


def load(
    path: PathLike,
    *,
    rate: int | None = 16000,
    start: float | None = None,
    end: float | None = None,
    min_duration: float = SHORTEST,
    max_duration: float | None = None,
) -> Waveform:
    """Read a recording, or a segment of it, as a mono signal.

    Channels are averaged, and integers divided by the full scale of their width. Of a segment only its own
    part of the file is read (and decoded), with as much around it as the resampling filter reaches, so that a
    segment equals the same slice of the whole recording: ``load(path, start=a, end=b).signal`` is
    ``load(path).signal[round(a * rate):round(b * rate)]`` to about 1e-6.

    What is not noticed: bits that changed inside a WAV, Ogg or MP3 file; an MP3 file without a length header
    that was cut exactly between two frames; a file whose program never wrote the length of its sound;
    clipping that happened before a lossy codec or a change of level.

    Args:
        path: Any file that libsndfile reads: WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, AU, CAF, W64.
        rate: Samples per second of the result; None keeps the file's own.
        start: Beginning of the segment in seconds; None or NaN is the beginning of the recording.
        end: End of the segment in seconds; None or NaN is the end of the recording. It may pass the end of
            the recording by 10 ms, the rounding of annotations, and is then the end of the recording.
        min_duration: Shortest accepted duration in seconds.
        max_duration: Longest accepted duration in seconds; checked before anything is decoded.

    Raises:
        AudioError: If the file is missing, empty, truncated, not audio or unreadable, the segment does not
            lie in it, it is too short or too long, or holds NaN or infinite samples.
    """
    name = os.fspath(path)
    with _open(path) as (file, frames):
        source = file.samplerate
        begin, finish = _segment(start, end, frames / source, name)
        _check_duration(finish - begin, min_duration, max_duration, name)
        target = source if rate is None else rate
        total = _resampled_length(frames, source, target)
        first, last = round(begin * target), min(round(finish * target), total)
        if target == source:
            read_first, read_count, offset = first, last - first, first
        else:
            read_first, read_count, offset = _context(first, last, frames, source, target)
        blocks, clipped = [], 0
        for block in _blocks(file, read_first, read_count, name):
            clipped += _count_clipped(block)
            blocks.append(_mono(block))
    signal = np.concatenate(blocks)
    seen = len(signal)
    if target != source:
        signal = resample(signal, source, target)
    signal = signal[first - offset : last - offset]
    return _finish(signal, target, name, clipped / seen)


def from_array(
    signal: np.ndarray, rate: int, *, target_rate: int | None = 16000, min_duration: float = SHORTEST
) -> Waveform:
    """A waveform from samples in memory, with the checks of `load`.

    Args:
        signal: `[samples]` or `[channels, samples]`; channels are averaged. uint8, int8, int16 and int32 are
            divided by the full scale of their width (uint8 is centred at 128, as in WAV files); floats are
            taken as they are, with full scale at 1.0.
        rate: Samples per second of ``signal``.
        target_rate: Samples per second of the result; None keeps ``rate``.
        min_duration: Shortest accepted duration in seconds.

    Raises:
        AudioError: If the array is empty, too short, holds NaN or infinite values, or is not a signal by its
            type or shape.
    """
    name = "<array>"
    array = np.asarray(signal)
    if rate <= 0:
        raise AudioError(name, "not audio", f"a rate of {rate} samples per second; give a positive rate")
    if array.ndim not in (1, 2):
        raise AudioError(name, "not audio", f"shape {array.shape}; give [samples] or [channels, samples]")
    if array.size == 0:
        raise AudioError(name, "empty", "no samples; give at least 25 ms of sound")
    if array.ndim == 2 and array.shape[0] > array.shape[1]:
        raise AudioError(name, "not audio", f"shape {array.shape} is not [channels, samples]; transpose it")
    if array.dtype == np.uint8:
        scaled = (array.astype(np.float32) - 128) / 128
    elif array.dtype in (np.int8, np.int16, np.int32):
        scaled = (array / -float(np.iinfo(array.dtype).min)).astype(np.float32)
    elif array.dtype.kind == "f":
        scaled = array.astype(np.float32, copy=False)
    else:
        raise AudioError(
            name,
            "not audio",
            f"samples of type {array.dtype} have no known full scale; convert to int16 or float32",
        )
    if not np.isfinite(scaled).all():
        raise AudioError(name, "nan", "holds NaN or infinite samples; export the recording again")
    channels = np.atleast_2d(scaled).T
    _check_duration(len(channels) / rate, min_duration, None, name)
    clipped = _count_clipped(channels) / len(channels)
    target = rate if target_rate is None else target_rate
    mono = resample(_mono(channels), rate, target)
    return _finish(mono.copy() if np.shares_memory(mono, array) else mono, target, None, clipped)


def resample(signal: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """`[samples]` to `[floor(samples * target_rate / source_rate + 0.5)]`, by soxr at its high quality.

    Sample ``k`` of the result lies at ``k / target_rate`` seconds: the filter's delay is taken out.
    """
    if source_rate == target_rate:
        return signal
    return soxr.resample(np.ascontiguousarray(signal, dtype=np.float32), source_rate, target_rate)


def _resampled_length(frames: int, source: int, target: int) -> int:
    return (2 * frames * target + source) // (2 * source)


def _context(first: int, last: int, frames: int, source: int, target: int) -> tuple[int, int, int]:
    """What to read so that output samples ``first`` to ``last`` come out as they would from the whole file.

    Returns:
        First frame to read, number of frames to read, and the output sample at which the first frame lies.
        The first frame is one that falls on an output sample exactly, so that the grids of part and whole
        agree.
    """
    divisor = math.gcd(source, target)
    step_in, step_out = source // divisor, target // divisor
    reach = math.ceil(512 / min(source, target) * source)  # soxr's filter reaches over about 100 of the slower samples
    step = max(0, first * source // target - reach) // step_in
    read_first = step * step_in
    read_last = min(frames, math.ceil(last * source / target) + reach)
    return read_first, read_last - read_first, step * step_out


def _mono(block: np.ndarray) -> np.ndarray:
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)


def _segment(start: float | None, end: float | None, duration: float, name: str) -> tuple[float, float]:
    begin = 0.0 if start is None or _is_missing(start) else float(start)
    finish = duration if end is None or _is_missing(end) else float(end)
    if duration < finish <= duration + _SEGMENT_SLACK:
        finish = duration
    if not 0 <= begin < finish <= duration:
        raise AudioError(
            name,
            "bad segment",
            f"segment {begin:g} to {finish:g} s does not lie in a recording of {duration:.3f} s; correct start and end",
        )
    return begin, finish


def _is_missing(value: float) -> bool:
    return math.isnan(value)  # how a table says "no value"


def _check_duration(duration: float, shortest: float, longest: float | None, name: str) -> None:
    # Half a microsecond is forgiven: 400 frames at 16,000 Hz are 25 ms, whatever the floats say.
    if duration < shortest - 5e-7:
        raise AudioError(
            name,
            "too short",
            f"{1000 * duration:.1f} ms, less than {1000 * shortest:g} ms; leave it out or lower min_duration",
        )
    if longest is not None and duration > longest + 5e-7:
        raise AudioError(
            name,
            "too long",
            f"{duration:.2f} s, more than {longest:g} s; cut it into segments or raise max_duration",
        )


def _count_clipped(block: np.ndarray) -> int:
    """Places `[frames, channels]` at which three equal samples in a row lie at full scale."""
    if len(block) < 3 or np.abs(block).max() < _FULL_SCALE:
        return 0
    same = (block[1:-1] == block[:-2]) & (block[1:-1] == block[2:]) & (np.abs(block[1:-1]) >= _FULL_SCALE)
    return int(same.any(axis=1).sum())


def _finish(signal: np.ndarray, rate: int, path: str | None, clipped: float) -> Waveform:
    name = path or "<array>"
    if not len(signal):
        raise AudioError(name, "too short", f"no sample is left at {rate} Hz; leave it out")
    notes: list[str] = []
    peak = float(np.abs(signal).max())
    if peak - abs(float(signal.mean(dtype=np.float64))) <= _SILENCE:
        notes.append("silent")
        _warn(f"{name}: silent (no sample is more than 80 dB below full scale); check the recording")
    if clipped >= _CLIPPED_SHARE:
        notes.append("clipped")
        _warn(f"{name}: clipped ({100 * clipped:.2g} % of it sticks at full scale); record at a lower level")
    if peak > _OVER_RANGE:
        notes.append("over range")
        _warn(
            f"{name}: samples reach {peak:.4g} where full scale is 1; if they were integers, divide by their "
            "full scale (32768 for 16 bits)"
        )
    return Waveform(np.ascontiguousarray(signal), rate, path, tuple(notes))


def _warn(text: str) -> None:
    warnings.warn(text, AudioWarning, stacklevel=4)


# -------------------------------------------------------------------------------------------- long recordings


def stream(
    path: PathLike, *, rate: int | None = 16000, window: float, hop: float
) -> Iterator[tuple[float, np.ndarray]]:
    """Windows of a recording of any length, in memory that does not grow with it.

    Window ``k`` begins at ``k * hop`` seconds and equals ``load(path).signal[a:a + n]`` with ``a = round(k *
    hop * rate)`` and ``n = round(window * rate)``: starts do not drift. The last window is the first that
    reaches the end of the recording and may be shorter than ``window``; one below 25 ms is left out. Silence
    is no cause for a warning here, being part of every long recording.

    Args:
        path: As for `load`.
        rate: Samples per second of the windows; None keeps the file's own.
        window: Length of a window in seconds.
        hop: From the start of a window to the start of the next, in seconds.

    Returns:
        An iterator over (start in seconds, signal `[samples]` float32).

    Raises:
        AudioError: At the call, for what can be seen without decoding, and for a recording shorter than 25
            ms; while iterating, for damage and for NaN samples that are met on the way.
        ValueError: If ``window`` or ``hop`` is too small.
    """
    found = info(path)
    target = found.rate if rate is None else rate
    if window < SHORTEST or round(hop * target) < 1:
        raise ValueError(f"window {window} s and hop {hop} s: give at least {SHORTEST} s and one sample")
    _check_duration(found.duration, SHORTEST, None, found.path)
    return _windows(path, target, window, hop)


def _windows(path: PathLike, rate: int, window: float, hop: float) -> Iterator[tuple[float, np.ndarray]]:
    length = round(window * rate)
    shortest = math.ceil(SHORTEST * rate - 1e-6)
    held = np.zeros(0, dtype=np.float32)  # the samples from `position` on
    position = 0
    index = 0
    for chunk in _resampled_chunks(path, rate):
        held = np.concatenate([held, chunk])
        while True:
            first = round(index * hop * rate)
            drop = min(first - position, len(held))
            held, position = held[drop:], position + drop
            # One sample more than the window, to know whether it is the last one.
            if position < first or len(held) <= length:
                break
            yield index * hop, held[:length].copy()
            index += 1
    if position == round(index * hop * rate) and len(held) >= min(shortest, length):
        yield index * hop, held.copy()


def _resampled_chunks(path: PathLike, rate: int) -> Iterator[np.ndarray]:
    with _open(path) as (file, frames):
        source = file.samplerate
        blocks = _blocks(file, 0, frames, os.fspath(path))
        if source == rate:
            yield from map(_mono, blocks)
            return
        resampler = soxr.ResampleStream(source, rate, 1, dtype="float32")
        for block in blocks:
            yield resampler.resample_chunk(np.ascontiguousarray(_mono(block)))
        yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


# ------------------------------------------------------------------------------------------------------ noise


def white_noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """`[n]` float32: normal samples of unit power, the same power at every frequency."""
    return rng.standard_normal(n, dtype=np.float32)


def pink_noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """`[n]` float32: noise of unit power whose power density falls as 1 / f, 3.01 dB per octave."""
    if n < 2:
        return white_noise(n, rng)
    size = scipy.fft.next_fast_len(n, real=True)
    bins = size // 2 + 1
    spectrum = rng.standard_normal(bins) + 1j * rng.standard_normal(bins)
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(np.arange(1, bins))
    return _unit_power(scipy.fft.irfft(spectrum, size)[:n]).astype(np.float32)


def babble(signals: Sequence[np.ndarray], n: int, rng: np.random.Generator, talkers: int = 6) -> np.ndarray:
    """`[n]` float32 of unit power: several people talking at once.

    Each talker is one of ``signals``, drawn without repetition while there are enough, brought to unit power
    and repeated end to end from a random point.

    Args:
        signals: Speech, each `[samples]`, all at one rate; silent ones are left out.
        n: Samples wanted.
        rng: Source of the choice and of the starting points.
        talkers: How many talk at once.

    Raises:
        ValueError: If no signal has any sound in it.
    """
    audible = [signal for signal in signals if len(signal) and np.any(signal)]
    if not audible:
        raise ValueError("babble needs at least one signal that is not silent")
    chosen = rng.choice(len(audible), size=talkers, replace=talkers > len(audible))
    total = np.zeros(n)
    for which in chosen:
        talker = _unit_power(np.asarray(audible[which], dtype=np.float64))
        total += np.take(talker, int(rng.integers(len(talker))) + np.arange(n), mode="wrap")
    return _unit_power(total).astype(np.float32)


def _unit_power(signal: np.ndarray) -> np.ndarray:
    power = np.mean(np.square(signal))
    return signal / math.sqrt(power) if power > 0 else signal


def mix_at_snr(signal: np.ndarray, noise: np.ndarray, snr_db: float, *, power: float | None = None) -> np.ndarray:
    """``signal`` at its own level plus ``noise`` at the level that gives a signal-to-noise ratio.

    The ratio is that of the mean squares over the whole signal, pauses included, unless another power of the signal
    is given. Noise that is too short is repeated, noise that is too long cut. The sum may pass full scale; nothing is
    cut off.

    Args:
        signal: `[samples]`.
        noise: `[any]`, at the same rate.
        snr_db: 10 log10 of signal power over noise power.
        power: Power of the signal that the ratio is of, such as its `graphophone.levels.active_power`; the mean square
            if None.

    Returns:
        `[samples]` float32.

    Raises:
        AudioError: With reason ``"silent"``, if either has no power and no ratio exists.
    """
    clean = np.asarray(signal, dtype=np.float64)
    if len(noise) == 0:
        raise AudioError("<noise>", "empty", "no samples; give some noise")
    other = np.resize(np.asarray(noise, dtype=np.float64), len(clean))
    powers = float(np.mean(np.square(clean))) if power is None else power, float(np.mean(np.square(other)))
    for name, power in zip(("<signal>", "<noise>"), powers, strict=True):
        if not power > 0:
            raise AudioError(name, "silent", "silent, so no signal-to-noise ratio exists; leave it out")
    gain = math.sqrt(powers[0] / powers[1]) * 10 ** (-snr_db / 20)
    return (clean + gain * other).astype(np.float32)


def add_noise(
    waveform: Waveform,
    kind: Literal["white", "pink", "babble"] | PathLike,
    snr_db: float,
    *,
    seed: int = 0,
    babble_from: Sequence[np.ndarray | Waveform] | None = None,
    active: bool = False,
) -> Waveform:
    """A noisy copy of ``waveform``.

    Args:
        waveform: The clean recording.
        kind: ``"white"``, ``"pink"``, ``"babble"``, or the path of a recording of noise, of which a part is
            taken from a random point on (around its end if it is too short).
        snr_db: Signal-to-noise ratio in dB, exact to 0.01 dB.
        seed: The same seed gives the same noise; give each recording its own.
        babble_from: Other speech for ``"babble"``; arrays are at the rate of ``waveform``.
        active: Whether the ratio is of the power while there is sound (`graphophone.levels.active_power`) rather than
            of the whole recording, so that pauses do not make the noise fainter.

    Raises:
        AudioError: If the recording is silent, or the noise recording cannot be read.
        ValueError: If ``"babble"`` is asked for without speech to make it from.
    """
    rng = np.random.default_rng(seed)
    n = len(waveform.signal)
    if kind == "white":
        noise = white_noise(n, rng)
    elif kind == "pink":
        noise = pink_noise(n, rng)
    elif kind == "babble":
        if not babble_from:
            raise ValueError("babble needs other speech: give babble_from")
        noise = babble([_at_rate(other, waveform.rate) for other in babble_from], n, rng)
    else:
        recording = load(kind, rate=waveform.rate).signal
        noise = np.take(recording, int(rng.integers(len(recording))) + np.arange(n), mode="wrap")
    try:
        power = active_power(waveform.signal, waveform.rate) if active else None
        mixed = mix_at_snr(waveform.signal, noise, snr_db, power=power)
    except AudioError as error:
        culprit = waveform.path if error.path == "<signal>" else os.fspath(kind)
        raise AudioError(culprit or error.path, error.reason, error.text) from None
    return replace(waveform, signal=mixed)


def _at_rate(speech: np.ndarray | Waveform, rate: int) -> np.ndarray:
    return resample(speech.signal, speech.rate, rate) if isinstance(speech, Waveform) else speech
