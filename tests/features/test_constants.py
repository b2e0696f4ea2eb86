from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphophone.corpora.base import Corpus
from graphophone.features import FeatureCache, FeatureError, FeaturePipeline, create_extractor
from graphophone.features.constants import measure

MakeCorpus = Callable[..., Corpus]


class Lengths:
    """What measuring needs of a FeatureSet."""

    def __init__(self, lengths: list[int]) -> None:
        self.pipeline = FeaturePipeline(create_extractor("fbank", num_mel_bins=3))
        self.unpadded_lengths = np.array(lengths)

    def __len__(self) -> int:
        return len(self.unpadded_lengths)

    def unpadded(self, index: int) -> np.ndarray:
        return np.full((self.unpadded_lengths[index], 3), index, np.float32)


def test_constants_are_those_of_all_frames_without_padding(make_corpus: MakeCorpus, cache: FeatureCache) -> None:
    corpus = make_corpus([0.3, 0.5, 1.2], spontaneous=[1, 0, 1])
    extractor = create_extractor("fbank", num_mel_bins=8)
    features = FeaturePipeline(extractor, frames=100, metadata=["spontaneous"]).extract(corpus, cache=cache, workers=1)
    everything = np.concatenate(list(FeaturePipeline(extractor).extract(corpus, cache=cache, workers=1)))
    found = measure(features)
    assert (found.clips, found.frames) == (3, len(everything))
    assert (found.shortest, found.median, found.longest) == (28, 48, 118)
    np.testing.assert_allclose([found.mean, found.std], [everything.mean(), everything.std()], rtol=1e-5)
    part = measure(features, [1])
    np.testing.assert_allclose(part.mean, everything[28:76].mean(), rtol=1e-5)
    assert (part.clips, part.frames, part.suggested) == (1, 48, 64)
    with pytest.raises(FeatureError, match="no clip to measure"):
        measure(features, [])


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_the_suggested_size_holds_most_clips_whole(lengths: list[int]) -> None:
    found = measure(Lengths(lengths))  # type: ignore[arg-type]
    assert found.suggested % 32 == 0
    assert found.whole == np.mean(np.array(lengths) <= found.suggested) >= 0.95
    assert found.suggested - 32 < found.longest
    values = np.repeat(np.arange(len(lengths)), lengths)
    np.testing.assert_allclose([found.mean, found.std], [values.mean(), max(values.std(), 1e-6)], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("lengths", "suggested"), [([998] * 9, 1024), ([498] * 9, 512), ([498] * 97 + [700] * 3, 512), ([512], 512)]
)
def test_published_sizes(lengths: list[int], suggested: int) -> None:
    assert measure(Lengths(lengths)).suggested == suggested  # type: ignore[arg-type]


@pytest.mark.data
@pytest.mark.filterwarnings("ignore::graphophone.audio.AudioWarning")
def test_esc10_is_close_to_the_constants_published_for_esc50(data_root: Path, cache: FeatureCache) -> None:
    """The ten classes are not the fifty, but five-second clips of the same collection."""
    import pandas as pd

    folder = data_root / "esc10"
    table = pd.read_csv(folder / "meta" / "esc50.csv").iloc[::10]
    frame = pd.DataFrame(
        {
            "audio": [next((folder / "audio").glob(f"{Path(name).stem}.*")) for name in table["filename"]],
            "label": table["category"],
        }
    )
    corpus = Corpus.from_table(frame, name="esc10")
    found = measure(FeaturePipeline(create_extractor("fbank"), frames=512).extract(corpus, cache=cache, workers=1))
    assert found.clips == 40
    assert (found.median, found.suggested) == (498, 512)
    assert abs(found.mean + 6.6268) < 1.5
    assert abs(found.std - 5.3585) < 1
