from __future__ import annotations

import numpy as np
import pytest

from graphophone.features import create_extractor
from graphophone.features.panns import slaney_filters
from graphophone.features.torch_fbank import mel_filters
from graphophone.inference.bands import band_centres, band_groups


def test_the_middle_of_a_band_is_where_its_filter_peaks():
    centres = band_centres(create_extractor("fbank", num_mel_bins=40, low_freq=50, high_freq=-500))
    assert centres is not None
    filters = mel_filters(40, 8192, 16000, 50, -500)
    np.testing.assert_allclose(filters.argmax(axis=1) * 16000 / 8192, centres, atol=2)
    centres = band_centres(create_extractor("panns_logmel"))
    assert centres is not None
    filters = slaney_filters(32000, 16384, 64, 50.0, 14000.0)
    np.testing.assert_allclose(filters.argmax(axis=0) * 32000 / 16384, centres, atol=2)


def test_means_and_deviations_are_of_the_same_bands():
    centres = band_centres(create_extractor("logmel128"))
    assert centres is not None
    assert centres.shape == (128,)
    np.testing.assert_array_equal(centres[:64], centres[64:])
    # A sine is loudest in the band whose middle is nearest to it.
    time = np.arange(16000) / 16000
    for frequency in (300.0, 1000.0, 5000.0):
        means = create_extractor("logmel128")(np.sin(2 * np.pi * frequency * time).astype(np.float32), 16000)[:64]
        assert abs(int(means.argmax()) - int(np.abs(centres[:64] - frequency).argmin())) <= 1
    members = band_groups(centres)["1 kHz to 2 kHz"]
    assert {member % 64 for member in members} == {member for member in members if member < 64}


def test_what_is_no_band_has_no_frequency():
    assert band_centres(create_extractor("is10")) is None


@pytest.mark.parametrize("name", ["fbank", "panns_logmel"])
def test_every_band_is_in_one_octave(name: str):
    centres = band_centres(create_extractor(name))
    assert centres is not None
    groups = band_groups(centres)
    assert sorted(band for members in groups.values() for band in members) == list(range(len(centres)))
    assert next(iter(groups)) == "below 250 Hz"
    assert all(500 <= centre < 1000 for centre in centres[groups["500 Hz to 1 kHz"]])
    assert ("above 8 kHz" in groups) == (name == "panns_logmel")
