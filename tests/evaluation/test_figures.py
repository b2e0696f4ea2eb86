import itertools
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics.pairwise import cosine_similarity as reference_similarity

from graphophone.evaluation import figures as draw
from graphophone.evaluation.figures_classes import precision_and_size
from graphophone.evaluation.figures_states import spectrogram, state_map
from graphophone.evaluation.figures_sweep import Panel, estimate_dots, sweep_curves
from graphophone.evaluation.metrics import reliability
from graphophone.evaluation.statistics import Estimate, interval
from graphophone.evaluation.tagging import threshold_table


def curves(epochs: int = 10) -> pd.DataFrame:
    t = np.arange(epochs)
    return pd.DataFrame(
        {
            "epoch": t,
            "train_loss": 2 / (t + 1),
            "validation_loss": 2 / (t + 1) + 0.2,
            "train_ua": t / epochs,
            "validation_ua": t / epochs / 2,
        }
    )


def some_bins() -> list[dict]:
    rng = np.random.default_rng(0)
    return reliability(rng.integers(0, 3, 200), rng.dirichlet([0.5] * 3, 200))


def some_classes(count: int, equal: bool = False) -> list[dict]:
    rng = np.random.default_rng(count)
    return [
        {"class": f"a rather long class name {i}", "ap": rng.random(), "support": 7 if equal else 1 + i}
        for i in range(count)
    ]


def some_tags(count: int, items: int = 80) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(count)
    y = rng.random((items, count)) < 0.2
    return y.astype(int), np.clip(0.5 * y + 0.6 * rng.random(y.shape), 0, 1), [f"<{i}>" for i in range(count)]


def some_thresholds(count: int) -> Figure:
    y, p, names = some_tags(count)
    return draw.threshold_curves(y, p, names, threshold_table(y, p))


def some_map(count: int) -> Figure:
    rng = np.random.default_rng(count)
    classes = [f"class <{i}>" for i in range(count)]
    return state_map(rng.standard_normal((5 * count, 2)), classes * 5, [*classes, "class without items"])


def some_panel(lines: int) -> Panel:
    rng = np.random.default_rng(lines)
    return Panel(
        "$UA$",
        {f"task {i}": [(x, interval(rng.random(3))) for x in (2, 5, 20, 100)] for i in range(lines)},
        {"k-NN": [(x, interval(rng.random(1))) for x in (2, 5, 20, 100)], "SVM": [(5, interval([0.5]))]},
        scale=100,
        ylabel="%",
        floor=("chance", 0.25),
    )


FIGURES: dict[str, Callable[[], Figure]] = {
    "curves without validation": lambda: draw.learning_curves(
        {"a": curves().assign(validation_loss=np.nan, validation_ua=np.nan)}, {"a": 9}
    ),
    "curves of tags": lambda: draw.learning_curves(
        {"a": curves().rename(columns={"validation_ua": "validation_map"})}, {"a": 3}, key="map", title="mAP", scale=1
    ),
    "confusion of fifty": lambda: draw.confusion(np.eye(50, dtype=int).tolist(), [f"class {i}" for i in range(50)]),
    "precision of ten classes": lambda: draw.class_precision(some_classes(10)),
    "precision of one class": lambda: draw.class_precision(some_classes(1)),
    "precision of fifty classes": lambda: draw.class_precision(some_classes(50)),
    "precision of two hundred classes": lambda: draw.class_precision(some_classes(200)),
    "precision of 527 classes": lambda: draw.class_precision(some_classes(527)),
    "precision by items": lambda: draw.precision_by_support(some_classes(80)),
    "precision by as many items": lambda: draw.precision_by_support(some_classes(3, equal=True)),
    "thresholds": lambda: some_thresholds(20),
    "thresholds of one tag": lambda: some_thresholds(1),
    "bars of fractions": lambda: draw.estimate_bars(["a"], {"mAP": [interval([0.4, 0.5])]}, percent=False),
    "curves of one": lambda: draw.learning_curves({"a": curves()}, {"a": 4}),
    "curves of several": lambda: draw.learning_curves({"a": curves(), "b": curves(7)}, {"a": 4, "b": None}),
    "curves without accuracy": lambda: draw.learning_curves({"a": curves()[["epoch", "train_loss"]]}),
    "confusion": lambda: draw.confusion([[3, 1], [0, 0]], ["<a>", "$x$"]),
    "confusion of twenty": lambda: draw.confusion(
        np.eye(20, dtype=int).tolist(), [f"class number {i}" for i in range(20)]
    ),
    "speakers": lambda: draw.speaker_bars([{"speaker": f"{i}", "ua": i / 10} for i in range(10)]),
    "one speaker": lambda: draw.speaker_bars([{"speaker": "a", "ua": 0.5}]),
    "long names": lambda: draw.speaker_bars([{"speaker": f"somebody {i}", "ua": 0.5} for i in range(20)]),
    "many speakers": lambda: draw.speaker_bars([{"speaker": f"{i}", "ua": i / 100} for i in range(80)]),
    "reliability": lambda: draw.reliability_diagram(some_bins(), 0.2),
    "similarity": lambda: draw.similarity_heat_map(np.random.default_rng(0).standard_normal((30, 5)), hop=0.01),
    "spectrogram": lambda: spectrogram(np.random.default_rng(0).standard_normal((2500, 64)), hop=0.01),
    "spectrogram of silence": lambda: spectrogram(np.zeros((30, 64))),
    "map of states": lambda: some_map(8),
    "map of many classes": lambda: some_map(33),
    "curves over a setting": lambda: sweep_curves([some_panel(7), some_panel(1)], "labels, %"),
    "curve of one line": lambda: sweep_curves([some_panel(1)], "<layers>"),
    "dots": lambda: estimate_dots(
        [f"setting {i}" for i in range(30)], {"UA": [interval([0.1, 0.5])] * 29 + [None]}, chance=0.125
    ),
    "similarity of zeros": lambda: draw.similarity_heat_map(np.zeros((4, 5))),
    "bars": lambda: draw.estimate_bars(
        ["mean", "max"],
        {"UA": [interval([0.5, 0.6]), None], "WA": [interval([0.4]), interval([0.3, 0.35])]},
        chance=0.25,
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_can_be_drawn_and_put_into_a_page(name: str, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    path = draw.save_png(figure, tmp_path / "new" / "figure.png")
    pixels = mpl.image.imread(path)
    assert pixels.shape[0] > 300
    assert pixels[..., :3].std() > 0.01  # something is drawn
    svg = draw.to_svg(figure, "pre")
    assert dict(mpl.rcParams) == before
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own text
    assert root.tag == "svg"
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert len(set(ids)) == len(ids)
    assert all(i is not None and i.startswith("pre-") for i in ids)
    for target in re.findall(r"url\(#([^)]+)\)", svg) + re.findall(r'href="#([^"]+)"', svg):
        assert target in ids
    assert "http" not in svg
    assert "<style" not in svg


def test_text_of_a_page_figure_follows_the_page() -> None:
    svg = draw.to_svg(FIGURES["confusion"](), "x")
    assert "var(--ink)" in svg
    assert draw.INK not in svg
    assert "&lt;a&gt;" in svg
    assert "$x$" in svg  # a name, not mathematics


def test_confusion_writes_shares_and_counts() -> None:
    figure = draw.confusion([[30, 10], [0, 0]], ["a", "b"])
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts == ["75", "30", "25", "10"]  # the class without items has no shares


def test_fifty_classes_have_no_room_for_numbers() -> None:
    figure = draw.confusion(np.eye(50, dtype=int).tolist(), [f"class {i}" for i in range(50)])
    assert not figure.axes[0].texts


def test_classes_are_in_order_and_those_left_out_are_not_drawn() -> None:
    rows: list[dict] = [{"class": "b", "ap": 0.2}, {"class": "a", "ap": 0.9}, {"class": "none", "ap": None}]
    axes = draw.class_precision(rows).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [bar.get_width() for bar in axes.patches] == [0.9, 0.2]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(0.55)  # the mean


def test_of_many_classes_the_best_and_the_worst_are_named() -> None:
    rows = some_classes(70)
    strip, best, worst = draw.class_precision(rows, named=5).axes
    order = [row["class"][:23] for row in sorted(rows, key=lambda row: -row["ap"])]
    assert len(strip.lines[0].get_xdata()) == 70
    assert [label.get_text()[:23] for label in best.get_yticklabels()] == order[:5]
    assert [label.get_text()[:23] for label in worst.get_yticklabels()] == order[-5:]


def test_without_any_rate_there_is_one_panel() -> None:
    bare = curves()[["epoch", "train_loss"]]
    assert len(draw.learning_curves({"a": bare}).axes) == 1
    without = curves().assign(validation_loss=np.nan, validation_ua=np.nan)
    figure = draw.learning_curves({"a": without}, {"a": 9})
    labels = [text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()]
    assert labels == ["training", "training"]  # nothing was selected, so nothing is marked


def test_selected_epoch_is_marked() -> None:
    figure = draw.learning_curves({"a": curves()}, {"a": 4})
    accuracy = figure.axes[1]
    dots = [line for line in accuracy.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert [(float(d.get_xdata()[0]), float(d.get_ydata()[0])) for d in dots] == [
        (5.0, pytest.approx(100 * 4 / 10 / 2))
    ]


def test_epochs_without_validation_leave_no_gap() -> None:
    sparse = curves().assign(validation_ua=[np.nan, np.nan, 0.2, np.nan, np.nan, 0.4, np.nan, np.nan, 0.5, np.nan])
    for tables in ({"a": sparse}, {"a": sparse, "b": sparse}):
        axes = draw.learning_curves(tables, {"a": 5}).axes[1]
        lines = [line.get_xydata() for line in axes.lines if len(line.get_xdata()) == 3]
        assert len(lines) == (1 if len(tables) == 1 else 3)  # with their mean
        for line in lines:
            assert line == pytest.approx(np.array([[3, 20], [6, 40], [9, 50]]))
        assert axes.get_xlim()[1] > 10  # the same epochs as the loss
    alone = curves().assign(validation_ua=[0.2] + [np.nan] * 9)
    assert any(line.get_marker() == "." for line in draw.learning_curves({"a": alone}).axes[1].lines)


def test_mean_curve_covers_the_epochs_that_all_reached() -> None:
    figure = draw.learning_curves({"a": curves(10), "b": curves(7)})
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() > 2]
    assert [len(line.get_xdata()) for line in thick] == [7, 7]


def test_bars_have_the_height_of_the_mean_and_their_interval() -> None:
    figure = draw.estimate_bars(["x"], {"UA": [Estimate(0.5, 0.1, 0.4, 0.6, 3)]})
    (bar,) = figure.axes[0].patches
    assert bar.get_height() == pytest.approx(50.0)
    (segments,) = figure.axes[0].collections[0].get_segments()
    assert segments[:, 1].tolist() == pytest.approx([40.0, 60.0])


def test_similarity_against_scikit_learn() -> None:
    x = np.random.default_rng(0).standard_normal((20, 6))
    assert np.allclose(draw.cosine_similarity(x), reference_similarity(x))
    assert draw.cosine_similarity(np.ones((5000, 2)), limit=100).shape == (100, 100)


def test_short() -> None:
    assert draw.short("neutral") == "neutral"
    assert draw.short("a" * 30, 10) == "a" * 9 + "…"


def test_settings_that_stand_one_below_the_other_are_not_cut() -> None:
    labels = ["kernel = neighbours\nK = 10\nP = 25", "kernel = neighbours\nK = 10\nP = 50"]
    (axes,) = draw.estimate_bars(labels, {"UA": [Estimate(0.5, None, None, None, 1)] * 2}).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == labels


@pytest.mark.parametrize("count", [4, 60, 61])
def test_classes_have_their_precision_recall_and_size(count: int) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"class": f"c{i}", "ap": float(rng.random()), "recall": float(rng.random()), "support": 5 + i}
        for i in range(count)
    ]
    rows.append({"class": "absent", "ap": None, "recall": None, "support": 0})
    figure = precision_and_size(rows)
    there = sorted(rows[:-1], key=lambda row: -row["ap"])
    if count > 60:
        (dots,) = figure.axes[0].lines
        assert sorted(dots.get_xydata().tolist()) == sorted([row["support"], row["ap"]] for row in there)
        return
    left, right = figure.axes
    precision, recall, mean = left.lines
    assert precision.get_xdata().tolist() == [row["ap"] for row in there]
    assert recall.get_xdata().tolist() == [row["recall"] for row in there]
    assert mean.get_xdata()[0] == pytest.approx(np.mean([row["ap"] for row in there]))
    assert [label.get_text() for label in left.get_yticklabels()] == [row["class"] for row in there]
    assert [bar.get_width() for bar in right.patches] == [row["support"] for row in there]


def test_curves_have_their_points_their_intervals_and_controls() -> None:
    e = [Estimate(0.5, 0.1, 0.4, 0.6, 3), Estimate(0.7, None, None, None, 1)]
    panel = Panel("UA", {"none": [(2.0, e[0]), (100.0, e[1])]}, {"k-NN": [(2.0, e[1]), (100.0, e[1])]}, scale=100)
    (axes,) = sweep_curves([panel], "labels, %").axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "100"]
    line, spread, control = axes.lines
    assert line.get_xydata().tolist() == pytest.approx(np.array([[2, 50], [100, 70]]))
    assert spread.get_xydata().tolist() == pytest.approx(np.array([[2, 40], [2, 60]]))
    assert control.get_ydata().tolist() == pytest.approx([70, 70])
    assert control.get_linestyle() == "--"


def test_intervals_of_several_lines_do_not_hide_each_other() -> None:
    e = interval([0.4, 0.6])
    panel = Panel("UA", {name: [(1.0, e), (3.0, e)] for name in "ab"}, {})
    (axes,) = sweep_curves([panel], "layers").axes
    assert axes.get_xscale() == "linear"
    firsts = [line.get_xdata()[0] for line in axes.lines if line.get_marker() != "None"]
    assert firsts[0] < 1 < firsts[1]
    assert firsts[1] - firsts[0] < 0.1


def test_neighbouring_classes_of_a_map_differ_in_colour_and_shape() -> None:
    figure = some_map(8)
    looks = [(line.get_color(), line.get_marker()) for line in figure.axes[0].lines]
    assert len({colour for colour, _ in looks}) == 8
    assert all(a[1] != b[1] for a, b in itertools.pairwise(looks))
