import json

import numpy as np
import pytest

from graphophone.evaluation.measures import SPEECH
from graphophone.evaluation.noise_comparison import compare_drops
from graphophone.evaluation.noise_figures import drop_panels
from graphophone.evaluation.noise_section import csv_rows, noise_section
from graphophone.evaluation.published_drops import DROPS, own_published_drops, published_drops
from graphophone.evaluation.report import write_report
from graphophone.evaluation.results import ResultsError, RunResults

IEMOCAP = {
    "recipe": {"corpus.name": "iemocap", "model.name": "subgraph_ssl", "model.tasks": "denoise"},
    "run": {"corpus": {"name": "iemocap", "items": 5531}, "model": {"name": "subgraph_ssl", "parameters": 271000}},
}


def row(noise: str, snr: float, measure: str, drop: float, clean: float = 0.7) -> dict:
    low, high = drop - 0.01, drop + 0.01
    return {"noise": noise, "snr": snr, "measure": measure, "clean": clean, "noisy": clean - drop, "drop": drop,
            "sd": 0.004, "low": low, "high": high, "over": "seeds", "n": 2}  # fmt: skip


def add_noise(folder, drops: dict[str, float], **more) -> None:
    """A file as the test with noise leaves it: each noise costs twice as much at 0 dB as at 10."""
    trainings = [list(path.name.rsplit("-seed", 1)) for path in sorted((folder / "folds").iterdir())]
    content = {
        "version": "0.1.0",
        "made": "2025-03-04T12:00:00+00:00",
        "measures": ["ua", "wa"],
        "snrs": [10.0, 0.0],
        "headline": 10.0,
        "seed": 0,
        "rate": 16000,
        "items": 96,
        "items_key": "k",
        "trainings": [[fold, int(seed)] for fold, seed in trainings],
        "noises": [{"name": name, "key": name} for name in drops],
        "skipped": [],
        "notes": [],
        "left_out": [],
        "rows": [
            row(name, snr, measure, drop * factor)
            for name, drop in drops.items()
            for snr, factor in ((10.0, 1), (0.0, 2))
            for measure in ("ua", "wa")
        ],
        **more,
    }
    (folder / "robustness.json").write_text(json.dumps(content), "utf-8")


def test_a_run_without_noise_has_no_section(make_run):
    folder = make_run("run")
    assert noise_section(RunResults.read(folder)) is None
    assert 'id="noise"' not in write_report(folder).read_text("utf-8")


def test_the_report_has_figure_table_and_words(make_run, check):
    folder = make_run("run")
    left = [{"item": "quiet.wav", "row": None, "reason": "silent", "severity": "error"}]
    skipped = [{"noise": "babble", "reason": "corpus 'x' names no speakers"}]
    add_noise(folder, {"white": 0.123, "pink": -0.004}, left_out=left, skipped=skipped)
    page = check(write_report(folder))
    assert page.row("white") == ["white", "12.3 ± 0.4", "24.6 ± 0.4"]
    assert page.row("pink") == ["pink", "−0.4 ± 0.4", "−0.8 ± 0.4"]
    assert "Clean, these recordings reach 70.0 % UA; white at 10 dB costs 12.3 points, pink −0.4." in page.text
    assert "± is the standard deviation over 2 seeds." in page.text
    assert "Bars are" not in page.text  # an interval of two seeds says nothing
    assert "No babble: corpus 'x' names no speakers." in page.text
    assert "Left out, clean and noisy: quiet.wav." in page.text
    assert "#noise" in page.links
    assert (folder / "figures" / "robustness.png").stat().st_size > 5000
    assert "published" not in page.row("Noise")


def test_trainings_that_came_later_are_said(make_run):
    folder = make_run("run")
    add_noise(folder, {"white": 0.1}, trainings=[["fold0", 0]])
    section = noise_section(RunResults.read(folder))
    assert "5 trainings finished since are not among them." in section["notes"]


def test_the_published_drop_stands_beside_the_same_system_on_the_same_corpus_only(make_run):
    folder = make_run("ssl", **IEMOCAP)
    add_noise(folder, {"white": 0.02, "factory1": 0.01, "rain": 0.03})
    section = noise_section(RunResults.read(folder))
    assert section["columns"] == ["10 dB", "0 dB", "published"]
    assert [r["cells"][-1] for r in section["rows"]] == ["0.5", "1.2", "–"]
    assert any("does not state the signal-to-noise ratio" in note for note in section["notes"])
    other = {"corpus": {"name": "ravdess"}, "model": {"name": "subgraph_ssl"}}
    recipe = {"model": {"name": "subgraph_ssl", "tasks": "denoise"}}
    assert published_drops(other) == ()
    assert own_published_drops(other, recipe) is None
    iemocap = {"corpus": {"name": "iemocap"}, "model": {"name": "subgraph_ssl"}}
    assert own_published_drops(iemocap, {"model": {"name": "subgraph_ssl", "tasks": ["shuffle"]}}).tasks == "shuffle"
    assert own_published_drops(iemocap, {"model": {"name": "subgraph_ssl", "tasks": "all"}}) is None
    assert own_published_drops({**iemocap, "model": {"name": "glnn"}}, {"model": {"name": "glnn"}}) is None


def test_the_published_table():
    assert {row.tasks: dict(row.drops) for row in DROPS} == {
        "none": {"babble": 2.8, "factory": 1.6, "white": 3.1, "pink": 2.0, "cockpit": 1.1},
        "denoise": {"babble": 0.5, "factory": 1.2, "white": 0.5, "pink": 0.9, "cockpit": 0.8},
        "completion": {"babble": 0.7, "factory": 1.1, "white": 0.8, "pink": 1.3, "cockpit": 1.6},
        "shuffle": {"babble": 0.8, "factory": 0.8, "white": 1.0, "pink": 1.5, "cockpit": 0.9},
    }


def test_runs_side_by_side_with_what_is_published(make_run, tmp_path):
    first = make_run("first", **IEMOCAP)
    second = make_run("second", **IEMOCAP)
    add_noise(first, {"white": 0.02, "pink": 0.01})
    add_noise(second, {"white": 0.03}, items_key="others", rate=32000, seed=1, noises=[{"name": "white", "key": "w"}])
    found = compare_drops([first, second])
    assert found.title == "drop of unweighted accuracy in points, at 10 dB"
    assert found.columns == ("run", "clean %", "white", "pink")
    assert found.rows[:2] == (
        ("first", "70.0", "2.0 ± 0.4", "1.0 ± 0.4"),
        ("second", "70.0", "3.0 ± 0.4", "–"),
    )
    assert found.rows[2] == ("SubgraphSSL, no task, Shirian et al. (2022), Table IV", "–", "3.1", "2.0")
    assert len(found.rows) == 6
    assert len(found.notes) == 5
    assert set(found.table["run"]) == {"first", "second"}
    table, figure = found.save(tmp_path / "out" / "noise.csv")
    assert table.is_file()
    assert figure.stat().st_size > 5000
    same = compare_drops([first, first])
    assert [cells[0] for cells in same.rows[:2]] == [str(first), str(first)]


def test_what_cannot_be_compared(make_run):
    first = make_run("first")
    add_noise(first, {"white": 0.02})
    sounds = make_run("sounds", recipe={"corpus.name": "esc50"}, run={"corpus": {"name": "esc50"}})
    add_noise(sounds, {"white": 0.02})
    with pytest.raises(ResultsError, match="compare runs of one kind"):
        compare_drops([first, sounds])
    other = make_run("other")
    add_noise(other, {"white": 0.02}, snrs=[5.0], headline=5.0, rows=[row("white", 5.0, "ua", 0.1)])
    with pytest.raises(ResultsError, match="no common signal-to-noise ratio"):
        compare_drops([first, other])


def test_csv_is_in_percent_and_points():
    rows = csv_rows({"rows": [{**row("white", 10.0, "ua", 0.05), "sd": None}]})
    assert rows[0]["drop"] == pytest.approx(5.0)
    assert rows[0]["clean"] == pytest.approx(70.0)
    assert rows[0]["sd"] is None
    assert rows[0]["snr"] == 10.0


@pytest.mark.parametrize("seeds", [2, 3])
def test_figures_take_what_is_not_defined_and_any_number_of_panels(seeds):
    known = {snr: {**row("white", snr, "ua", 0.01 * (21 - snr)), "n": seeds} for snr in (20.0, 0.0)}
    outside = {**row("white", 20.0, "ua", 0.2), "low": 0.21, "high": 0.3}  # over folds, pooled otherwise
    undefined = {**row("white", 20.0, "ua", 0.2), "drop": None, "low": None, "high": None}
    for count in (1, 3, 5):
        panels = [(f"noise {n}", {"one": known, "two": {20.0: outside, 0.0: undefined}}) for n in range(count)]
        figure = drop_panels(panels, [20.0, 0.0], SPEECH.main)
        shown = [axes for axes in figure.axes if axes.get_visible()]
        assert len(shown) == count
        left, right = shown[0].get_xlim()
        assert left > right
        line = shown[0].containers[0][0]
        np.testing.assert_allclose(np.asarray(line.get_ydata(), dtype=float), [1.0, 21.0])
        (bars,) = shown[0].containers[0][2]
        heights = [end[1] - start[1] for start, end in bars.get_segments()]
        np.testing.assert_allclose(heights, [2.0, 2.0] if seeds > 2 else [0.0, 0.0], atol=1e-9)
