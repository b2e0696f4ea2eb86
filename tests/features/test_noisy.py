import math

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from graphophone import audio
from graphophone.corpora import Corpus
from graphophone.features import FeatureCache, FeaturePipeline, create_extractor
from graphophone.features.base import FeatureError
from graphophone.features.noises import Babble, Pink, Recorded, Recording, White
from graphophone.features.noisy import Noisy
from graphophone.levels import active_power

RATE = 16000
FBANK = create_extractor("fbank")


def speech(seed: int = 0, seconds: float = 1.5) -> np.ndarray:
    """A tone that comes and goes, with a pause in the middle."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(RATE * seconds)) / RATE
    signal = 0.2 * np.sin(2 * np.pi * rng.uniform(150, 400) * time) * (np.abs(time - seconds / 2) > 0.3)
    return (signal + 1e-4 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noises")
    for number in range(5):
        soundfile.write(folder / f"{number}.wav", speech(number), RATE)
    soundfile.write(folder / "factory.wav", 0.1 * np.random.default_rng(9).standard_normal(4000), 8000)
    soundfile.write(folder / "nothing.wav", np.zeros(RATE), RATE)
    return folder


@pytest.fixture(scope="module")
def noises(files):
    talkers = tuple(Recording.read(str(files / f"{number}.wav")) for number in range(1, 5))
    return White(), Pink(), Babble(talkers, talkers=3), Recorded(Recording.read(str(files / "factory.wav")), "factory")


def ratio(clean: np.ndarray, noisy: np.ndarray) -> float:
    noise = noisy.astype(np.float64) - clean
    return 10 * math.log10(active_power(clean, RATE) / float(np.mean(noise**2)))


@pytest.mark.parametrize("snr", [20, 10, 5, 0, -5])
def test_the_measured_ratio_is_the_one_asked_for(noises, snr):
    for noise in noises:
        assert ratio(speech(), Noisy(FBANK, noise, snr).mix(speech())) == pytest.approx(snr, abs=0.01)


@given(st.integers(0, 50), st.floats(-20, 40), st.floats(0.05, 1.0))
def test_it_is_so_for_any_recording(seed, snr, seconds):
    clean = speech(seed, seconds)
    for noise in (White(), Pink()):
        assert ratio(clean, Noisy(FBANK, noise, snr).mix(clean)) == pytest.approx(snr, abs=0.01)


def test_pauses_do_not_make_the_noise_fainter():
    clean = speech()
    padded = np.concatenate([clean, np.zeros(5 * RATE, dtype=np.float32)])
    powers = [np.mean((Noisy(FBANK, White(), 10).mix(signal) - signal) ** 2) for signal in (clean, padded)]
    assert abs(10 * math.log10(powers[0] / powers[1])) < 1.2  # the hangover of the last word
    whole = audio.add_noise(audio.Waveform(padded, RATE), "white", 10).signal - padded
    assert 10 * math.log10(powers[1] / np.mean(whole**2)) > 6
    active = audio.add_noise(audio.Waveform(padded, RATE), "white", 10, active=True).signal - padded
    assert 10 * math.log10(powers[1] / np.mean(active**2)) == pytest.approx(0, abs=0.1)


def test_a_recording_has_its_own_noise_whatever_is_computed_of_it_and_however_loud(noises):
    for noise in noises:
        first = Noisy(FBANK, noise, 10).mix(speech(0)) - speech(0)
        again = Noisy(create_extractor("fbank", num_mel_bins=20), noise, 10).mix(speech(0)) - speech(0)
        np.testing.assert_array_equal(first, again)
        louder = Noisy(FBANK, noise, 0).mix(speech(0)) - speech(0)
        np.testing.assert_allclose(louder, first * math.sqrt(10), atol=1e-6)
        other = Noisy(FBANK, noise, 10).mix(speech(1)) - speech(1)
        reseeded = Noisy(FBANK, noise, 10, seed=1).mix(speech(0)) - speech(0)
        for different in (other, reseeded):
            assert abs(np.corrcoef(first, different)[0, 1]) < 0.9


def test_features_are_those_of_the_mixture():
    extractor = Noisy(FBANK, White(), 5)
    np.testing.assert_array_equal(extractor(speech(), RATE), FBANK(extractor.mix(speech()), RATE))
    assert (extractor.level, extractor.hop, extractor.columns, extractor.dims) == (
        *(FBANK.level, FBANK.hop, FBANK.columns),
        FBANK.dims,
    )


def test_every_mixture_is_cached_by_itself(noises, files):
    made = [Noisy(FBANK, noise, snr) for noise in noises for snr in (10, 5)]
    made += [Noisy(FBANK, White(), 10, seed=1), Noisy(create_extractor("fbank", num_mel_bins=20), White(), 10)]
    made.append(Noisy(FBANK, Babble(noises[2].recordings[:3], talkers=3), 10))
    assert len({extractor.fingerprint for extractor in made}) == len(made)
    assert Noisy(FBANK, White(), 10).fingerprint == Noisy(FBANK, White(), 10.0).fingerprint
    assert made[0].name == "fbank-white10dB"
    renamed = files / "renamed.wav"
    renamed.write_bytes((files / "factory.wav").read_bytes())
    same = Noisy(FBANK, Recorded(Recording.read(str(renamed)), "factory"), 10)
    assert same.fingerprint == Noisy(FBANK, noises[3], 10).fingerprint


def test_a_corpus_is_extracted_in_any_order_and_found_again(files, noises, tmp_path):
    paths = [str(files / f"{number}.wav") for number in range(5)] + [str(files / "nothing.wav")]
    corpus = Corpus.from_table(pd.DataFrame({"audio": paths, "label": list("ababab")}), name="few")
    cache = FeatureCache(tmp_path)
    pipeline = FeaturePipeline(Noisy(FBANK, noises[2], 10), decimate=2)
    found = pipeline.extract(corpus, cache=cache, progress=False)
    assert [problem.reason for problem in found.failures] == [
        f"{files / 'nothing.wav'}: the recording is silent, so no signal-to-noise ratio exists; leave it out"
    ]
    backwards = pipeline.extract(corpus.select([4, 3, 2, 1, 0]), cache=None, progress=False, workers=2)
    for one, other in zip(found, list(backwards)[::-1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert pipeline.extract(corpus, cache=cache, progress=False).stats.cached == 5


def test_what_cannot_be_mixed_is_named(files):
    with pytest.raises(FeatureError, match="ratio in dB"):
        Noisy(FBANK, White(), float("nan"))
    with pytest.raises(FeatureError, match="the recording is silent"):
        Noisy(FBANK, White(), 10)(np.zeros(RATE, dtype=np.float32), RATE)
    with pytest.raises(audio.AudioError, match=r"nothing\.wav: silent"):
        Recording.read(str(files / "nothing.wav"))
    with pytest.raises(audio.AudioError, match="no such file"):
        Recording.read(str(files / "gone.wav"))
    half = np.zeros(RATE, dtype=np.float32)
    half[0] = 0.5
    soundfile.write(files / "half.wav", half, RATE)
    quiet = Noisy(FBANK, Recorded(Recording.read(str(files / "half.wav")), "half"), 10)
    with pytest.raises(FeatureError, match="this part of half is silent"):
        quiet(speech(0, 0.1), RATE)
