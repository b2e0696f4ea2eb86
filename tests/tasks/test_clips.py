import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import LightningModule, Trainer
from torch.utils.data import SequentialSampler

from graphophone import audio
from graphophone.corpora.base import Corpus
from graphophone.features import FeatureError, FeaturePipeline, FeatureSet, Standardizer, create_extractor
from graphophone.features.spectrogram_augment import SpectrogramAugmentation, mix_power, mix_signals
from graphophone.features.speed import SpeedPerturbed
from graphophone.tasks.clips import SpectrogramClips, TrainingBatches, clip_loader

CLASSES = ["a", "b", "c"]
SECONDS = [0.4, 0.7, 1.0, 0.5, 0.9]
STANDARD = Standardizer.constant(-5.0, 4.0, 12)
EVERYTHING = {
    "speeds": (0.9,),
    "mixup_probability": 0.7,
    "time_shift": 0.5,
    "crop": True,
    "gain": 1.0,
    "frequency_shift": 2,
    "time_masks": 1,
    "time_mask": 20,
    "frequency_masks": 1,
    "frequency_mask": 5,
}
"""One of each change."""


class Corpora:
    """A corpus of clips cut out of one recording, of one or of several labels each, and its features."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        starts = np.concatenate([[0.0], np.cumsum(SECONDS)])
        sound = 0.05 * rng.standard_normal(round(starts[-1] * 16000))
        sound += np.sin(np.arange(len(sound)) * np.linspace(0.05, 1.5, len(sound))) * 0.3
        sf.write(folder / "all.wav", sound, 16000, subtype="FLOAT")
        places = {"audio": ["all.wav"] * 5, "start": starts[:-1], "end": starts[1:]}
        self.one = Corpus.from_table(
            pd.DataFrame({**places, "label": ["a", "b", "b", "c", "b"]}), name="one", classes=CLASSES, root=folder
        )
        self.many = Corpus.from_table(
            pd.DataFrame({**places, "labels": ["a", "a;b", "b", "c", "b;c"]}), name="many", classes=CLASSES, root=folder
        )
        self.sounds = [sound[round(a * 16000) : round(b * 16000)] for a, b in pairwise(starts)]
        self.extractor = create_extractor("fbank", num_mel_bins=12)

    def versions(self, *speeds: float, **options: Any) -> list[FeatureSet]:
        extractors = [self.extractor, *(SpeedPerturbed(self.extractor, speed) for speed in speeds)]
        options = {"frames": 64, **options}
        return [FeaturePipeline(one, **options).extract(self.one, cache=None, workers=1) for one in extractors]

    def clips(self, multi_label: bool = False, rows: Any = range(5), seed: int = 0, **change: Any) -> SpectrogramClips:
        corpus = self.many if multi_label else self.one
        augmentation = SpectrogramAugmentation(**change) if change else None
        versions = self.versions(*change.get("speeds", ()))
        return SpectrogramClips(versions, corpus, corpus.targets, np.asarray(rows), STANDARD, augmentation, seed)


@pytest.fixture(scope="module", name="made")
def made_corpora(tmp_path_factory: pytest.TempPathFactory) -> Corpora:
    return Corpora(tmp_path_factory.mktemp("clips"))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return torch.equal(one["x"], other["x"]) and torch.equal(one["y"], other["y"]) and one["row"] == other["row"]


def test_plain_clips_are_padded_and_standardised(made: Corpora) -> None:
    data = made.clips(rows=[3, 0])
    assert len(data) == 2
    item = data[0, 1]
    assert item["row"] == 0
    assert item["x"].shape == (64, 12)
    assert item["x"].dtype == item["y"].dtype == torch.float32
    frames = made.extractor(made.sounds[0].astype(np.float32), 16000)
    np.testing.assert_allclose(item["x"][: len(frames)], (frames + 5) / 4, atol=1e-5)
    np.testing.assert_allclose(item["x"][len(frames) :], 5 / 4)
    assert item["y"].tolist() == [1, 0, 0]
    assert made.clips(multi_label=True)[0, 1]["y"].tolist() == [1, 1, 0]
    np.testing.assert_allclose(made.clips()[0, 2]["x"], (made.versions(frames=0)[0][2][:64] + 5) / 4, atol=1e-5)


@pytest.mark.parametrize("domain", ["waveform", "power"])
def test_what_is_random_hangs_on_seed_epoch_and_row_alone(made: Corpora, domain: str) -> None:
    change = {**EVERYTHING, "mixup_domain": domain}
    one = made.clips(**change)
    items = {(epoch, row): one[epoch, row] for epoch in range(3) for row in range(5)}
    again = made.clips(**change)
    for epoch, row in reversed(items):
        assert same(again[epoch, row], items[epoch, row])
    assert not any(same(items[0, row], items[1, row]) for row in range(5))
    assert not same(items[0, 0], made.clips(seed=1, **change)[0, 0])
    assert not same(items[0, 0], one[0, 0, 1])
    assert same(one[0, 0, 1], again[0, 0, 1])


@pytest.mark.parametrize("domain", ["waveform", "power"])
def test_loader_processes_change_nothing(made: Corpora, domain: str) -> None:
    data = made.clips(**{**EVERYTHING, "mixup_domain": domain})
    batches = {}
    for workers in (0, 2):
        loader = clip_loader(data, batch_size=2, shuffle=True, seed=4, workers=workers)
        batches[workers] = []
        for epoch in (0, 1):
            loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
            batches[workers] += list(loader)
    assert len(batches[0]) == len(batches[2]) == 4
    for a, b in zip(batches[0], batches[2], strict=True):
        for name in ("x", "y", "row"):
            assert torch.equal(a[name], b[name])
    assert sorted(torch.cat([batch["row"] for batch in batches[0][:2]]).tolist()) == [0, 1, 2, 3, 4]


def test_clips_are_small_to_send_to_processes(made: Corpora) -> None:
    data = made.clips(mixup_probability=1.0)
    assert same(pickle.loads(pickle.dumps(data))[0, 1], data[0, 1])  # noqa: S301


@pytest.mark.parametrize("multi_label", [False, True])
def test_mixed_waveforms(made: Corpora, multi_label: bool) -> None:
    """Own computation of a mixture from the recording, with the partner and share drawn as documented."""
    change = SpectrogramAugmentation(mixup_probability=1.0, mixup_alpha=2.0)
    data = made.clips(multi_label, rows=[4, 2, 0], mixup_probability=1.0, mixup_alpha=2.0)
    targets = np.array([[1, 0, 0], [1, 1, 0] if multi_label else [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]], float)
    if multi_label:
        targets[4] = [0, 1, 1]
    seen = set()
    for epoch in range(12):
        item = data[epoch, 1]
        partner, share = change.draw_mixup(3, np.random.default_rng((0, epoch, 2)))  # type: ignore[misc]
        partner = [4, 2, 0][partner]
        seen.add(partner)
        mixed = mix_signals(made.sounds[2].astype(np.float32), made.sounds[partner].astype(np.float32), share)
        frames = made.extractor(mixed, 16000)[:64]
        np.testing.assert_allclose(item["x"], (frames + 5) / 4, atol=2e-3)
        np.testing.assert_allclose(item["y"], share * targets[2] + (1 - share) * targets[partner], atol=1e-6)
        assert item["row"] == 2
    assert seen == {0, 2, 4}


def test_mixed_powers_use_the_features_at_hand(made: Corpora, monkeypatch: pytest.MonkeyPatch) -> None:
    change = {"mixup_probability": 1.0, "mixup_domain": "power", "speeds": (0.9,), "speed_probability": 1.0}
    data = made.clips(**change)
    rng = np.random.default_rng((0, 3, 1))
    drawn = SpectrogramAugmentation(**change)
    assert drawn.draw_speed(rng) == 1
    partner, share = drawn.draw_mixup(5, rng)  # type: ignore[misc]
    slow = made.versions(0.9, frames=0)[1]
    monkeypatch.setattr(audio, "load", lambda *_, **__: pytest.fail("a recording was read"))
    expected = mix_power(slow[1], slow[partner], share)[:64]
    np.testing.assert_allclose(data[3, 1]["x"][: len(expected)], (expected + 5) / 4, atol=1e-5)


def test_both_domains_draw_the_same_and_sound_alike(made: Corpora) -> None:
    pairs = [
        [made.clips(mixup_probability=1.0, mixup_domain=domain)[epoch, row] for epoch in range(8) for row in range(5)]
        for domain in ("waveform", "power")
    ]
    for a, b in zip(*pairs, strict=True):
        assert torch.equal(a["y"], b["y"])
    distance = torch.stack([a["x"] - b["x"] for a, b in zip(*pairs, strict=True)])
    assert distance.mean().abs() < 0.05  # of 4 nats each
    assert distance.abs().mean() < 0.15


@given(seed=st.integers(0, 200), multi_label=st.booleans())
def test_targets_of_mixtures_are_mixtures(made: Corpora, seed: int, multi_label: bool) -> None:
    data = made.clips(multi_label, seed=seed, mixup_probability=1.0, mixup_domain="power", mixup_alpha=0.5)
    y = data[0, 1]["y"]
    assert y.min() >= 0
    assert y.max() <= 1
    assert 1 - 1e-6 <= y.sum() <= (2 if multi_label else 1) + 1e-6


def test_sparse_targets_are_the_dense_ones(made: Corpora) -> None:
    for multi_label, corpus in ((False, made.one), (True, made.many)):
        dense = made.clips(multi_label, mixup_probability=0.5, mixup_domain="power")
        sparse = made.clips(multi_label, mixup_probability=0.5, mixup_domain="power")
        sparse.targets = corpus.memberships
        assert all(same(dense[epoch, row], sparse[epoch, row]) for epoch in range(3) for row in range(5))
    batches = clip_loader(sparse, batch_size=2, balanced=True)
    assert sum(len(batch["row"]) for batch in batches) == 5


def test_weights_that_exceed_one_are_clamped(made: Corpora) -> None:
    data = made.clips(True, mixup_probability=1.0, mixup_domain="power")
    data.targets = 2 * data.targets
    assert max(data[epoch, 1]["y"].max() for epoch in range(5)) == 1


def test_masks_come_before_standardisation_and_padding_is_masked_too(made: Corpora) -> None:
    change = {"time_masks": 1, "time_mask": 60, "frequency_masks": 1, "frequency_mask": 10}
    plain, zeros = made.clips(), made.clips(**change)
    means = made.clips(**change, mask_value="mean")
    lengths = set()
    for epoch in range(40):
        x, z, m = (data[epoch, 0]["x"] for data in (plain, zeros, means))
        hidden = (m != x) | (z != x)
        np.testing.assert_allclose(z[hidden], 5 / 4)
        np.testing.assert_array_equal(m[hidden], 0)
        lengths.add(int(hidden[:, :].all(dim=1).nonzero().max()) if hidden.all(dim=1).any() else 0)
    assert max(lengths) > 38  # the clip has 38 frames


def test_time_shifts_leave_the_padding_at_the_end(made: Corpora) -> None:
    frames = made.clips()[0, 0]["x"]
    for epoch in range(20):
        moved = made.clips(time_shift=0.5)[epoch, 0]["x"]
        np.testing.assert_array_equal(moved[38:], frames[38:])
        places = [shift for shift in range(38) if torch.equal(torch.roll(frames[:38], shift, 0), moved[:38])]
        assert len(places) == 1


def test_random_crops_of_long_clips(made: Corpora) -> None:
    whole = (made.versions(frames=0)[0][2] + 5) / 4
    data = made.clips(crop=True)
    begins = set()
    for epoch in range(60):
        x = data[epoch, 2]["x"].numpy()
        (begin,) = [b for b in range(len(whole) - 63) if np.allclose(whole[b : b + 64], x, atol=1e-6)]
        begins.add(begin)
    assert len(begins) > 20
    assert same(data[0, 0], made.clips()[0, 0])  # shorter than the crop


def test_unsuitable_features_are_refused(made: Corpora) -> None:
    def clips(*speeds: float, **options: Any) -> SpectrogramClips:
        change = SpectrogramAugmentation(speeds=speeds)
        features = made.versions(**options)
        return SpectrogramClips(features, made.one, made.one.targets, np.arange(5), STANDARD, change)

    with pytest.raises(FeatureError, match=r"features\.frames is 0"):
        clips(frames=0)
    with pytest.raises(FeatureError, match="relative"):
        clips(relative=True)
    with pytest.raises(ValueError, match="1 versions for 1 speeds"):
        clips(0.9)
    fewer = made.one.select([0, 1])
    with pytest.raises(ValueError, match="every item of the corpus"):
        SpectrogramClips(made.versions(), fewer, fewer.targets, np.arange(2), STANDARD)


@given(size=st.integers(1, 40), batch_size=st.integers(1, 9), drop=st.booleans())
def test_no_training_batch_has_one_item(size: int, batch_size: int, drop: bool) -> None:
    sampler = TrainingBatches(SequentialSampler(range(size)), batch_size, drop)  # type: ignore[arg-type]
    batches = list(sampler)
    assert len(batches) == len(sampler)
    items = [item for batch in batches for item in batch]
    assert items == list(range(size - size % batch_size if drop else size))
    if batch_size > 1 and size > 1:
        assert all(1 < len(batch) <= batch_size + 1 for batch in batches)


def test_a_loader(made: Corpora) -> None:
    data = made.clips(True)
    state = torch.get_rng_state()
    batches = list(clip_loader(data, batch_size=4))
    assert torch.equal(torch.get_rng_state(), state)
    assert [len(batch["row"]) for batch in batches] == [4, 1]  # every item alone is fine where nothing is learned
    assert torch.cat([batch["row"] for batch in batches]).tolist() == [0, 1, 2, 3, 4]
    assert batches[0]["x"].shape == (4, 64, 12)
    assert torch.equal(torch.cat([batch["y"] for batch in batches]), torch.from_numpy(made.many.targets).float())
    assert [len(batch["row"]) for batch in clip_loader(data, batch_size=4, shuffle=True)] == [5]


def test_repeated_clips_of_a_balanced_epoch_are_changed_in_different_ways(made: Corpora) -> None:
    data = made.clips(gain=3.0)
    (batch,) = clip_loader(data, batch_size=5, balanced=True, seed=1)
    rows, counts = batch["row"].unique(return_counts=True)
    assert counts.max() > 1
    repeated = batch["x"][batch["row"] == rows[counts.argmax()]]
    assert not torch.equal(repeated[0], repeated[1])


def test_a_trainer_gives_every_epoch_its_own_order(made: Corpora) -> None:
    seen = []

    class Watcher(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(12, 3)

        def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
            seen.append(tuple(batch["row"].tolist()))
            return self.layer(batch["x"].mean(1)).sub(batch["y"]).square().mean()

        def predict_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
            return batch["row"]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    data = made.clips(gain=1.0)
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Watcher(), clip_loader(data, batch_size=2, shuffle=True))
    assert [len(rows) for rows in seen] == [2, 3] * 3
    assert len({sum(seen[i : i + 2], ()) for i in (0, 2, 4)}) == 3
    predicted = trainer.predict(Watcher(), clip_loader(made.clips(), batch_size=2))
    assert torch.cat(predicted).tolist() == [0, 1, 2, 3, 4]
