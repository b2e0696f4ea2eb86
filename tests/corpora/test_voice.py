"""The synthesiser against closed forms and against what can be measured on its sound."""

import dataclasses

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from graphophone.corpora import voice
from graphophone.corpora.voice import RATE, Manner, Voice, synthesize

MAN = Voice(pitch=120, tract=1.0, tilt=3.0, rate=1.0, level=0.0, breath=0.02, noise=-70)
PLAIN = Manner(accent=0.0, declination=0.0, final=0.0)
LONG_VOWEL = "a" * 8


def say(text: str = LONG_VOWEL, speaker: Voice = MAN, seed: int = 0, **manner: float) -> np.ndarray:
    return synthesize(text, speaker, dataclasses.replace(PLAIN, **manner), np.random.default_rng(seed))


def middle(signal: np.ndarray) -> np.ndarray:
    """Half a second from the middle."""
    return signal[len(signal) // 2 - RATE // 4 : len(signal) // 2 + RATE // 4]


def measured_pitch(signal: np.ndarray) -> float:
    """Hz, by the highest peak of the autocorrelation between 60 and 450 Hz."""
    lags = np.arange(RATE // 450, RATE // 60)
    correlation = np.correlate(signal, signal, "full")[len(signal) - 1 :]
    return RATE / lags[np.argmax(correlation[lags] / (len(signal) - lags))]


def test_pieces_add_up_to_the_signal() -> None:
    signal = np.random.default_rng(0).standard_normal(5000)
    frames = 1 + -(-5000 // voice._HOP)
    inside = slice(voice._WINDOW, -voice._WINDOW)
    restored = voice._inverse(voice._transform(signal, frames), 5000)
    np.testing.assert_allclose(restored[inside], signal[inside], atol=1e-5)


@pytest.mark.parametrize(("centre", "bandwidth"), [(500.0, 80.0), (1500.0, 90.0), (3500.0, 220.0)])
def test_resonators_are_those_of_the_difference_equation(centre: float, bandwidth: float) -> None:
    """y[n] = a x[n] + b y[n-1] + c y[n-2], Klatt (1980), equations 1 to 4, here run sample by sample."""
    c = -np.exp(-2 * np.pi * bandwidth / RATE)
    b = 2 * np.exp(-np.pi * bandwidth / RATE) * np.cos(2 * np.pi * centre / RATE)
    signal = np.random.default_rng(0).standard_normal(8000)
    expected = scipy.signal.lfilter([1 - b - c], [1, -b, -c], signal)
    frames = 1 + 8000 // voice._HOP
    response = voice._resonance_response(np.full((frames, 1), centre), np.full((frames, 1), bandwidth))
    got = voice._inverse(voice._transform(signal, frames) * response, 8000)
    inside = slice(1000, -1000)
    assert np.abs(got[inside] - expected[inside]).max() < 2e-3 * np.abs(expected).max()


@settings(max_examples=25)
@given(pitch=st.floats(85, 330), shift=st.floats(-3, 3), seed=st.integers(0, 99))
def test_pitch_is_the_one_asked_for(pitch: float, shift: float, seed: int) -> None:
    speaker = dataclasses.replace(MAN, pitch=pitch)
    expected = pitch * 2 ** (shift / 12)
    # The slow drift has 0.3 semitones: 5 % is three times that.
    assert measured_pitch(middle(say(speaker=speaker, seed=seed, pitch=shift))) == pytest.approx(expected, rel=0.05)


def test_accents_and_the_end_move_the_pitch() -> None:
    def at(signal: np.ndarray, part: float) -> float:
        sound = np.flatnonzero(np.abs(signal) > 0.02)
        centre = int(sound[0] + part * (sound[-1] - sound[0]))
        return measured_pitch(signal[centre - 400 : centre + 400])

    high, flat = say("aaaAaaa", accent=6.0), say("aaaAaaa")
    assert at(high, 0.5) > 1.25 * at(flat, 0.5)
    assert at(high, 0.2) < 1.1 * at(flat, 0.2)
    rising, falling = say("aaaaaaa", final=5.0), say("aaaaaaa", final=-5.0)
    assert at(rising, 0.93) > 1.3 * at(falling, 0.93)
    assert at(rising, 0.5) == pytest.approx(at(falling, 0.5), rel=0.05)


def test_resonances_follow_vowel_and_tract() -> None:
    def peak(signal: np.ndarray, low: float, high: float) -> float:
        frequency, power = scipy.signal.welch(middle(signal), RATE, nperseg=512)
        smooth = np.convolve(10 * np.log10(power), np.ones(5) / 5, "same")
        band = (frequency > low) & (frequency < high)
        return float(frequency[band][np.argmax(smooth[band])])

    assert peak(say("i" * 8), 1500, 4000) == pytest.approx(2290, rel=0.1)
    assert peak(say("u" * 8), 500, 1500) == pytest.approx(900, rel=0.1)
    assert peak(say("i" * 8, tract=1.2), 2000, 3200) == pytest.approx(1.2 * 2290, rel=0.1)
    # Slurred vowels move towards the neutral one, whose second resonance lies at 1500 Hz.
    assert peak(say("i" * 8, vowels=0.6), 1000, 2400) == pytest.approx(1500 + 0.6 * 790, rel=0.1)


def test_rate_level_and_tilt() -> None:
    slow, quick = say("banana pita", rate=0.8), say("banana pita", rate=1.25)
    silence = 0.3  # on average, at both ends together, at any rate
    assert (len(slow) / RATE - silence) / (len(quick) / RATE - silence) == pytest.approx(1.25 / 0.8, rel=0.15)

    def rms(signal: np.ndarray) -> float:
        return float(10 * np.log10(np.mean(np.square(middle(signal)))))

    assert rms(say(level=6)) - rms(say()) == pytest.approx(6, abs=0.2)
    assert rms(say()) == pytest.approx(-28, abs=2)

    def balance(signal: np.ndarray) -> float:
        frequency, power = scipy.signal.welch(middle(signal), RATE, nperseg=512)
        return float(10 * np.log10(power[(frequency > 2000) & (frequency < 4000)].sum() / power[frequency < 600].sum()))

    # From about 500 to about 3000 Hz there are 2.6 octaves.
    assert balance(say(tilt=2)) - balance(say(tilt=-2)) == pytest.approx(4 * 2.6, abs=2.5)


def test_jitter_and_breath_make_the_voice_irregular() -> None:
    def regularity(signal: np.ndarray) -> float:
        piece = middle(signal)
        correlation = np.correlate(piece, piece, "full")[len(piece) - 1 :]
        return float(correlation[RATE // 450 : RATE // 60].max() / correlation[0])

    regular = regularity(say(jitter=0.0, shimmer=0.0))
    assert regularity(say(jitter=0.05, shimmer=0.0)) < regular - 0.05
    assert regularity(say(jitter=0.0, shimmer=0.0, breath=0.3)) < regular - 0.05


def test_fricatives_are_noise_of_their_own_colour() -> None:
    def centroid(text: str) -> float:
        frequency, power = scipy.signal.welch(middle(say(text)), RATE, nperseg=512)
        return float((frequency * power).sum() / power.sum())

    hiss, hush, vowel = centroid("a" + "s" * 12), centroid("a" + "c" * 12), centroid("a" * 8)
    assert hiss > 5000
    assert 2500 < hush < 4500
    assert vowel < 1500


def test_deterministic_and_in_range() -> None:
    first, same, other = say(seed=3), say(seed=3), say(seed=4)
    np.testing.assert_array_equal(first, same)
    assert len(first) != len(other)
    assert first.dtype == np.float32
    assert np.abs(say(level=60)).max() <= 0.971


@pytest.mark.parametrize("text", ["", "mst", "ba7o", "bäh"])
def test_what_cannot_be_spoken(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be spoken"):
        say(text)
