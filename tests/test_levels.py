import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphophone.levels import active_power

RATE = 16000


def tone(seconds: float, amplitude: float = 1.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * 300 * np.arange(int(RATE * seconds)) / RATE)


def decibels(power: float) -> float:
    return 10 * math.log10(power)


def test_of_a_signal_without_pauses_it_is_the_mean_square():
    assert decibels(active_power(tone(4.0), RATE)) == pytest.approx(decibels(0.5), abs=0.05)
    noise = np.random.default_rng(0).standard_normal(4 * RATE)
    assert decibels(active_power(noise, RATE)) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("floor", [0.0, 1e-3])
def test_pauses_do_not_count_but_for_the_hangover(rate, floor):
    time = np.arange(10 * rate) / rate
    speech = np.where(time < 2, np.sin(2 * np.pi * 300 * time), 0.0)
    speech += floor * np.random.default_rng(0).standard_normal(len(time))
    # Two seconds of tone, 200 ms of hangover, and the time in which the envelope falls by 11.9 dB and more.
    seconds = 0.5 * 2 / active_power(speech, rate)
    assert 2.2 < seconds < 2.35
    assert decibels(float(np.mean(speech**2))) < decibels(0.5) - 6.9


def test_a_click_has_the_power_of_its_hangover():
    click = np.zeros(RATE)
    click[3000] = 1.0
    assert active_power(click, RATE) == pytest.approx(1 / 3201, rel=0.02)


@given(st.floats(-80, 80), st.integers(1, 4000), st.integers(0, 100))
def test_it_scales_with_the_signal_and_is_no_less_than_the_mean_square(gain, length, seed):
    signal = np.random.default_rng(seed).standard_normal(length) * np.linspace(0, 1, length) ** 4 + 1e-9
    factor = 10 ** (gain / 20)
    power = active_power(signal, RATE)
    assert active_power(factor * signal, RATE) == pytest.approx(factor**2 * power, rel=1e-6)
    assert np.mean(signal**2) * (1 - 1e-9) <= power <= np.max(signal**2) * (1 + 1e-9)


def test_silence_has_none():
    assert active_power(np.zeros(1000, dtype=np.float32), RATE) == 0.0
