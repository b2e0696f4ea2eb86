import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import LightningModule, Trainer
from scipy.sparse import csr_array

from graphophone.features import FeaturePipeline, create_extractor
from graphophone.features.augment import FrameAugmentation
from graphophone.graphs import create_graph
from graphophone.tasks.data import (
    AugmentedFrames,
    EpochOrder,
    PlainFrames,
    UtteranceGraphs,
    balanced_weights,
    graph_loader,
    occurrences,
)

LENGTHS = [3, 7, 1, 12, 5, 9, 4]
ARRAYS = [np.random.default_rng(n).normal(size=(n, 6)).astype(np.float32) for n in LENGTHS]
TARGETS = np.array([0, 1, 1, 0, 1, 1, 1])


class Version:
    """What a training needs of a FeatureSet."""

    def __init__(self, scale: float = 1.0, decimate: int = 1) -> None:
        self.pipeline = FeaturePipeline(create_extractor("fbank", num_mel_bins=6), decimate=decimate)
        self.scale = scale

    def raw(self, row: int) -> np.ndarray:
        return self.scale * ARRAYS[row]

    def metadata(self, row: int) -> np.ndarray:
        return np.empty(0, np.float32)


def dataset(rows, augmentation=None, seed=0, versions=None):
    if augmentation is None:
        frames = PlainFrames(ARRAYS, lambda x: 2 * x)
    else:
        frames = AugmentedFrames(versions or [Version()], lambda x: 2 * x, augmentation)
    return UtteranceGraphs(frames, TARGETS, np.asarray(rows), seed)


@given(size=st.integers(1, 50), seed=st.integers(0, 5), epoch=st.integers(0, 5))
def test_every_item_once_per_epoch_in_an_order_of_seed_and_epoch(size, seed, epoch):
    order = EpochOrder(size, shuffle=True, seed=seed)
    order.set_epoch(epoch)
    first, again = list(order), list(order)
    assert first == again
    assert len(first) == len(order)
    assert sorted(position for _, position in first) == list(range(size))
    assert {number for number, _ in first} == {epoch}


def test_orders_differ_between_epochs_and_seeds():
    orders = set()
    for seed in (0, 1):
        for epoch in (0, 1):
            order = EpochOrder(30, shuffle=True, seed=seed)
            order.set_epoch(epoch)
            orders.add(tuple(position for _, position in order))
    assert len(orders) == 4


def test_a_balanced_order_draws_the_classes_equally():
    targets = np.array([0] * 90 + [1] * 10)
    order = EpochOrder(100, balanced=True, targets=targets)
    drawn = []
    for epoch in range(40):
        order.set_epoch(epoch)
        drawn += [targets[position] for _, position in order]
    assert abs(np.mean(drawn) - 0.5) < 0.03
    with pytest.raises(ValueError, match="targets"):
        EpochOrder(100, balanced=True)


def test_a_balanced_order_of_tags_follows_the_sum_of_inverse_class_sizes():
    """A closed form: counts 3, 1, 0 and an item without a tag."""
    targets = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]])
    common, rare = 1000 / 3.01, 1000 / 1.01
    expected = np.array([common, common, common + rare, 0])
    np.testing.assert_allclose(balanced_weights(targets), expected / expected.sum())
    np.testing.assert_array_equal(balanced_weights(csr_array(targets)), balanced_weights(targets))
    order = EpochOrder(4, balanced=True, targets=targets)
    drawn = []
    for epoch in range(2000):
        order.set_epoch(epoch)
        drawn += [position for _, position in order]
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 8000, expected / expected.sum(), atol=0.02)
    with pytest.raises(ValueError, match="items with labels"):
        EpochOrder(4, balanced=True, targets=np.zeros((4, 3), int))


@given(st.integers(1, 30), st.integers(1, 6))
def test_one_hot_tags_are_weighted_nearly_as_classes(size, classes):
    targets = np.random.default_rng(size).integers(classes, size=size)
    tags = np.eye(classes, dtype=np.int64)[targets]
    np.testing.assert_allclose(balanced_weights(tags), balanced_weights(targets), rtol=0.02)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_occurrences(values):
    expected = [values[:i].count(value) for i, value in enumerate(values)]
    assert occurrences(np.array(values)).tolist() == expected


def test_repeats_are_counted():
    targets = np.array([0] * 20 + [1])
    plain = EpochOrder(21, balanced=True, targets=targets, seed=1)
    counted = EpochOrder(21, balanced=True, targets=targets, seed=1, count_repeats=True)
    keys = list(counted)
    assert [key[:2] for key in keys] == list(plain)
    assert len(set(keys)) == len(keys)
    rare = [key[2:] for key in keys if key[1] == 20]
    assert rare == [(), *((n,) for n in range(1, len(rare)))]
    assert len(rare) > 5


def test_a_trainer_gives_every_epoch_its_own_order():
    seen = []

    class Watcher(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(6, 1)

        def training_step(self, batch, _):
            seen.append((self.current_epoch, tuple(batch.row.tolist())))
            return self.layer(batch.x).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    loader = graph_loader(dataset(range(7)), create_graph("line"), batch_size=7, shuffle=True, seed=3)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    Trainer(max_epochs=3, enable_model_summary=False, **options).fit(Watcher(), loader)
    assert len({rows for _, rows in seen}) == 3
    expected = EpochOrder(7, shuffle=True, seed=3)
    for epoch, rows in seen:
        expected.set_epoch(epoch)
        assert rows == tuple(position for _, position in expected)


def test_a_batch_holds_the_standardised_frames_and_the_graph_of_each_utterance():
    graph = create_graph("cycle_topk", k=2)
    (batch,) = graph_loader(dataset([3, 0, 5]), graph, batch_size=8)
    assert batch.num_graphs == 3
    assert batch.row.tolist() == [3, 0, 5]
    assert batch.y.tolist() == [0, 0, 1]
    for item, row in zip(batch.to_data_list(), [3, 0, 5], strict=True):
        torch.testing.assert_close(item.x, torch.from_numpy(2 * ARRAYS[row]))
        assert torch.equal(item.edge_index, graph(item.clone()).edge_index)


def test_augmentation_hangs_on_seed_epoch_and_item_alone():
    augmentation = FrameAugmentation(noise=1.0)
    one, other = dataset([0, 1, 2], augmentation), dataset([2, 1], augmentation)
    assert torch.equal(one[0, 2].x, other[0, 0].x)
    assert torch.equal(one[4, 1].x, other[4, 1].x)
    assert not torch.equal(one[0, 1].x, one[1, 1].x)
    assert not torch.equal(one[0, 1].x, dataset([0, 1], augmentation, seed=1)[0, 1].x)
    assert not torch.equal(one[0, 1].x, dataset([1])[0, 0].x)


def test_speed_tempo_and_crop_come_before_standardisation():
    augmentation = FrameAugmentation(speeds=(0.9,), speed_probability=1.0)
    data = dataset([3], augmentation, versions=[Version(), Version(scale=5.0)])
    torch.testing.assert_close(data[0, 0].x, torch.from_numpy(10 * ARRAYS[3]))
    halved = dataset([3], FrameAugmentation(tempo=1e-9), versions=[Version(decimate=2)])
    torch.testing.assert_close(halved[0, 0].x, torch.from_numpy(2 * ARRAYS[3].reshape(6, 2, 6).mean(1)))
    lengths = {len(dataset([3], FrameAugmentation(crop=0.5))[epoch, 0].x) for epoch in range(30)}
    assert min(lengths) >= 6
    assert len(lengths) > 3


def test_metadata_and_utterance_vectors_are_left_alone():
    class Known(Version):
        def __init__(self):
            super().__init__()
            self.pipeline = FeaturePipeline(create_extractor("fbank", num_mel_bins=6), metadata=["spontaneous"])

        def metadata(self, row):
            return np.array([1.0], np.float32)

    augmentation = FrameAugmentation(noise=1.0, shift=1.0, time_masks=3, time_mask_share=0.5, descriptor_mask=1.0)
    changed = dataset([3], augmentation, versions=[Known()])[0, 0].x
    assert (changed[:, 6] == 2).all()
    assert not torch.equal(changed[:, :6], torch.from_numpy(2 * ARRAYS[3]))

    class Vector(Version):
        def raw(self, row):
            return ARRAYS[3][0]

    (only,) = dataset([3], FrameAugmentation(crop=0.5, tempo=0.1, phase=True), versions=[Vector()])[0, 0].x
    torch.testing.assert_close(only, torch.from_numpy(2 * ARRAYS[3][0]))
