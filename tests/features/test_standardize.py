from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphophone.features import FeatureError, Standardizer


@st.composite
def parts(draw: st.DrawFn) -> list[np.ndarray]:
    dims = draw(st.integers(1, 4))
    shapes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    offset = draw(st.sampled_from([0.0, 1e3, -1e5]))
    values = st.floats(-100, 100, allow_nan=False, width=32)
    return [offset + draw(hnp.arrays(np.float64, (n, dims), elements=values)) for n in shapes]


@given(parts())
def test_fit_equals_numpy_on_the_concatenation(arrays: list[np.ndarray]) -> None:
    fitted = Standardizer.fit(arrays, floor=1e-6)
    everything = np.concatenate(arrays)
    scale = np.abs(everything).max() + 1.0
    np.testing.assert_allclose(fitted.mean, everything.mean(axis=0), atol=1e-12 * scale)
    np.testing.assert_allclose(fitted.std, np.maximum(everything.std(axis=0), 1e-6), rtol=1e-9, atol=1e-9)


@given(parts(), st.randoms())
def test_fit_does_not_depend_on_the_order(arrays: list[np.ndarray], random: object) -> None:
    shuffled = list(arrays)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    a, b = Standardizer.fit(arrays), Standardizer.fit(shuffled)
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(a.std, b.std, rtol=1e-9, atol=1e-9)


def test_no_cancellation_with_a_large_mean() -> None:
    rng = np.random.default_rng(0)
    arrays = [1e8 + rng.standard_normal((50, 2)) for _ in range(40)]
    np.testing.assert_allclose(Standardizer.fit(arrays).std, np.concatenate(arrays).std(axis=0), rtol=1e-6)


def test_training_frames_get_zero_mean_and_unit_deviation() -> None:
    rng = np.random.default_rng(1)
    arrays = [(rng.standard_normal((n, 3)) * [1, 50, 0.01] + [5, -300, 0]).astype(np.float32) for n in (40, 7, 90)]
    standardize = Standardizer.fit(arrays)
    out = np.concatenate([standardize(a) for a in arrays])
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=0), 1, rtol=1e-5)


def test_skipped_columns_pass_unchanged_and_unclipped() -> None:
    arrays = [np.array([[0.0, 1.0, 700.0], [2.0, 1.0, -700.0]])]
    for skip in ((1, 2), (-1, -2)):
        standardize = Standardizer.fit(arrays, skip=skip)
        assert standardize.skip == (1, 2)
        np.testing.assert_array_equal(standardize(arrays[0]), [[-1, 1, 700], [1, 1, -700]])


def test_clips_and_floors() -> None:
    standardize = Standardizer.fit([np.array([[0.0, 3.0], [2.0, 3.0]])], floor=0.5, clip=4.0)
    np.testing.assert_array_equal(standardize.std, [1.0, 0.5])
    np.testing.assert_array_equal(standardize(np.array([[9.0, 3.0], [-9.0, 4.0]])), [[4, 0], [-4, 2]])


def test_the_input_is_left_alone_even_if_read_only() -> None:
    frames = np.ones((3, 2), dtype=np.float32)
    frames.flags.writeable = False
    out = Standardizer(np.ones(2), np.ones(2))(frames)
    np.testing.assert_array_equal(out, 0)
    out += 1
    np.testing.assert_array_equal(frames, 1)


def test_save_and_load_are_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    frames = rng.standard_normal((30, 5)) * 3 + 2
    standardize = Standardizer.fit([frames], skip=[-1], clip=7.5)
    path = tmp_path / "standardizer.safetensors"
    standardize.save(path)
    for other in (Standardizer.load(path), Standardizer.from_state(standardize.state_dict())):
        assert (other.skip, other.clip) == ((4,), 7.5)
        np.testing.assert_array_equal(other.mean, standardize.mean)
        np.testing.assert_array_equal(other(frames), standardize(frames))


def test_errors_are_clear(tmp_path: Path) -> None:
    standardize = Standardizer(np.zeros(3), np.ones(3))
    with pytest.raises(FeatureError, match=r"fitted on 3 columns, got an array of shape \[4, 2\]"):
        standardize(np.zeros((4, 2)))
    with pytest.raises(FeatureError, match=r"array 1 is \[4, 2\], expected \[frames, 3\]"):
        Standardizer.fit([np.zeros((4, 3)), np.zeros((4, 2))])
    with pytest.raises(FeatureError, match="array 1 holds NaN"):
        Standardizer.fit([np.zeros((4, 3)), np.full((4, 3), np.nan)])
    with pytest.raises(FeatureError, match="no frames"):
        Standardizer.fit([])
    with pytest.raises(FeatureError, match="no frames"):
        Standardizer.fit([np.zeros((0, 3))])
    with pytest.raises(FeatureError, match="column 3 of 3"):
        Standardizer.fit([np.zeros((4, 3))], skip=[3])
    with pytest.raises(FeatureError, match="floor"):
        Standardizer.fit([np.zeros((4, 3))], floor=0.0)
    with pytest.raises(FeatureError, match="positive deviation"):
        Standardizer(np.zeros(3), np.zeros(3))
    with pytest.raises(FeatureError, match="has no 'clip'"):
        Standardizer.from_state({"mean": np.zeros(2), "std": np.ones(2), "skip": np.zeros(0)})
    with pytest.raises(FeatureError, match=r"absent\.safetensors: cannot be read"):
        Standardizer.load(tmp_path / "absent.safetensors")
    (tmp_path / "text").write_text("not tensors")
    with pytest.raises(FeatureError, match="text: cannot be read"):
        Standardizer.load(tmp_path / "text")


@given(parts(), st.booleans())
def test_pooled_is_one_mean_and_deviation_over_all_columns(arrays: list[np.ndarray], leave: bool) -> None:
    dims = arrays[0].shape[1]
    skip = [0] if leave and dims > 1 else []
    fitted = Standardizer.fit(arrays, skip=skip, pooled=True)
    kept = np.concatenate(arrays)[:, len(skip) :]
    scale = np.abs(kept).max() + 1.0
    np.testing.assert_allclose(fitted.mean[len(skip) :], kept.mean(), atol=1e-12 * scale)
    np.testing.assert_allclose(fitted.std[len(skip) :], max(kept.std(), 1e-6), rtol=1e-9, atol=1e-9 * scale)
    if skip:
        assert (fitted.mean[0], fitted.std[0]) == (0, 1)


def test_nothing_to_pool() -> None:
    with pytest.raises(FeatureError, match="skip names every column"):
        Standardizer.fit([np.ones((3, 2))], skip=[0, 1], pooled=True)


def test_published_constants(tmp_path: Path) -> None:
    standardizer = Standardizer.constant(-4.6476, 4.5699, 128)
    x = np.random.default_rng(0).normal(-4, 5, (7, 128)).astype(np.float32)
    np.testing.assert_allclose(standardizer(x), (x + 4.6476) / 4.5699, rtol=1e-5, atol=1e-6)
    assert standardizer(np.full((1, 128), 1e6, np.float32)).max() > 2e5  # nothing is clipped
    standardizer.save(tmp_path / "s.safetensors")
    np.testing.assert_array_equal(Standardizer.load(tmp_path / "s.safetensors")(x), standardizer(x))
    flagged = Standardizer.constant(1.0, 2.0, 3, skip=[-1])(np.full((1, 3), 5.0))
    np.testing.assert_array_equal(flagged, [[2, 2, 5]])


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_impossible_constants(mean: float, std: float) -> None:
    with pytest.raises(FeatureError, match="deviation above 0"):
        Standardizer.constant(mean, std, 4)
