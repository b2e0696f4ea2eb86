import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from graphophone.evaluation.comparison import compare, write_comparison
from graphophone.evaluation.report import write_report
from graphophone.evaluation.results import ResultsError, RunResults, flatten, varied

MakeRun = Callable[..., Path]
Check = Callable[[Path], Any]
EVIL = ['<script>alert("x")</script>', "a & b", "c'd\"e", "$x^2$"]


def test_report_of_a_finished_run(make_run: MakeRun, check: Check) -> None:
    folder = make_run(skill=2.6)
    path = write_report(folder)
    assert path == folder / "report.html"
    page = check(path)
    results = RunResults.read(folder)
    assert results.summary is not None
    ua, wa = results.summary["ua"], results.summary["wa"]
    assert f"unweighted accuracy of {100 * ua['mean']:.1f} %" in page.text
    assert f"95 % interval over 2 seeds {100 * ua['low']:.1f} to {100 * ua['high']:.1f}" in page.text
    assert "unfinished" not in page.text
    # Beside others, with the difference in words.
    assert page.row("GLNN, glnn-ravdess")[1] == f"{100 * ua['mean']:.1f} ± {100 * ua['sd']:.1f}"
    assert page.row("GLNN, weighted pooling")[4].startswith("Not comparable. Another corpus: IEMOCAP")
    assert page.row("ComParE 2016 functionals (6,373) + linear SVM")[1:3] == ["59.1", "59.2"]
    assert page.row("Unweighted accuracy (UA)")[1] == f"{100 * ua['mean']:.1f}"
    assert page.row("Weighted accuracy (WA)")[2] == f"{100 * wa['sd']:.1f}"
    fold = results.summary["over_folds"]["ua"]
    assert page.row("Unweighted accuracy (UA)")[4:] == [f"{100 * fold['mean']:.1f}", f"{100 * fold['sd']:.1f}"]
    assert page.row("fold1")[2] == "05, 06, 07 and 08"
    for entry in results.summary["pooled"]["per_class"]:
        assert page.row(entry["class"])[1] == f"{100 * entry['recall']:.1f}"
    assert page.row("12")[1] == "128"  # a speaker: 8 items of each of 8 classes, with two seeds
    assert page.row("03-01-01.wav")[1:] == ["7", "left out", "truncated; restore it"]
    assert "409,124" in page.text
    assert "61 times faster than real time" in page.text
    assert "s per epoch" in page.text
    assert "fold1: no test item of class calm" in page.text
    assert "No test speaker was heard in training." in page.text
    assert "pooling: weighted" in page.source  # the recipe
    assert len(page.images) == 6
    for name in ("confusion", "speakers", "reliability", "curves", "similarity"):
        assert mpl.image.imread(folder / "figures" / f"{name}.png").size
    assert not list(folder.glob(".*"))  # no temporary file is left


def test_pooled_within_a_seed_then_over_seeds(make_run: MakeRun) -> None:
    folder = make_run()
    summary = RunResults.read(folder).summary
    assert summary is not None
    by_hand = []
    for seed in (0, 1):
        tables = [pd.read_csv(folder / "folds" / f"fold{f}-seed{seed}" / "predictions.csv") for f in range(3)]
        table = pd.concat(tables)
        hits = (table["label"] == table["predicted"]).groupby(table["label"]).mean()
        by_hand.append(hits.mean())
    assert summary["ua"]["mean"] == pytest.approx(np.mean(by_hand))
    assert summary["ua"]["sd"] == pytest.approx(np.std(by_hand, ddof=1))


def test_text_from_data_is_escaped(make_run: MakeRun, check: Check) -> None:
    folder = make_run(
        classes=EVIL,
        folds=2,
        seeds=(0,),
        run={"description": "<b onclick=alert(1)>bold</b>", "name": "<i>run</i>"},
        recipe={"task.learning_rate": "</pre><script>alert(2)</script>"},
    )
    info = json.loads((folder / "run.json").read_text("utf-8"))
    info["corpus"]["name"] = "<u>corpus</u>"
    info["corpus"]["problems"][0] |= {"item": "<img src=x onerror=alert(3)>", "reason": "</td><script>"}
    info["protocol"]["description"] = "<svg onload=alert(4)>"
    (folder / "run.json").write_text(json.dumps(info), "utf-8")
    for path in folder.glob("folds/*/predictions.csv"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table["speaker"] = "<img src=y>" + table["speaker"]
        table.to_csv(path, index=False)
    page = check(write_report(folder))
    for text in ("<script>", "<img", "<i>", "<u>", "onload=alert(4)>", "<b "):
        assert text in page.text or text.strip("<> ") in page.text
        assert text not in page.source.replace("<b>", "") or text == "onload=alert(4)>"
    assert page.row(EVIL[0])[1]
    assert page.row(EVIL[2])[1]
    assert "$x^2$" in page.text


def test_problems_are_counted_in_all_where_run_json_lists_some(make_run: MakeRun, check: Check) -> None:
    folder = make_run(seeds=(0,), folds=2)
    plain = check(write_report(folder)).text
    assert "1 item could not be used and was left out; 1 item was used but should be looked at." in plain
    assert "more are in" not in plain
    info = json.loads((folder / "run.json").read_text("utf-8"))
    absent = {"item": "v", "row": None, "reason": "file not found: v", "severity": "error"}
    info["corpus"]["problems"] = [absent] * 300
    (folder / "run.json").write_text(json.dumps(info), "utf-8")
    assert "300 items could not be used and were left out. " in (before := check(write_report(folder)).text)
    assert "100 more are in run.json." in before, "a run of a time before the table of problems"
    info["corpus"]["problem_counts"] = [
        {"reason": "file not found", "severity": "error", "items": 5000},
        {"reason": "silent", "severity": "warning", "items": 7},
    ]
    (folder / "run.json").write_text(json.dumps(info), "utf-8")
    page = check(write_report(folder)).text
    assert "5,000 items could not be used and were left out; 7 items were used but should be looked at." in page
    assert "4,807 more are in problems.csv." in page


def test_missing_files_are_tolerated_and_the_page_is_repeatable(make_run: MakeRun, check: Check) -> None:
    folder = make_run(seeds=(0,), folds=2)
    for missing in ("recipe.yaml", "sample.npz", "folds/fold0-seed0/curves.csv"):
        (folder / missing).unlink()
    page = check(write_report(folder))
    assert len(page.images) == 5
    assert any("Learning curves of 1 training:" in image for image in page.images)
    assert not {"recipe", "similarity"} & set(page.ids)
    assert check(write_report(folder)).source == page.source


def test_bare_run_json_is_enough(make_run: MakeRun, check: Check) -> None:
    folder = make_run(seeds=(0,), folds=1, done=set())
    for path in ("recipe.yaml", "sample.npz"):
        (folder / path).unlink()
    (folder / "run.json").write_text("{}", "utf-8")
    page = check(write_report(folder))
    assert "no training has finished yet" in page.text


def test_unfinished_run_says_what_is_missing(make_run: MakeRun, check: Check) -> None:
    page = check(write_report(make_run(seeds=(0, 1), done={("fold0", 0), ("fold2", 0), ("fold0", 1)})))
    assert "unfinished: 3 of 6 trainings are done" in page.text
    assert "fold1 with seed 0, fold1 with seed 1 and fold2 with seed 1" in page.text
    assert "will change" in page.text
    # Seeds differ in their folds, so there is no interval, and no comparison with whole runs.
    assert page.row("Unweighted accuracy (UA)")[2:4] == ["–", "–"]
    assert "points below" not in page.text
    assert "points above" not in page.text


def test_finished_seeds_of_an_unfinished_run_are_scored_alone(make_run: MakeRun, check: Check) -> None:
    done = {(f"fold{f}", s) for f in range(3) for s in (0, 1)} | {("fold0", 2)}
    folder = make_run(seeds=(0, 1, 2), done=done)
    results = RunResults.read(folder)
    assert results.scored_seeds == [0, 1]
    assert not results.complete
    assert results.summary is not None
    assert results.summary["ua"]["n"] == 2
    page = check(write_report(folder))
    assert "The numbers are of the seeds 0 and 1, with all folds done." in page.text
    assert "95 % interval over 2 seeds" in page.text


def test_training_under_way_shows_its_curves(make_run: MakeRun, check: Check) -> None:
    folder = make_run(seeds=(0,), folds=2)
    (folder / "folds" / "fold1-seed0" / "metrics.json").unlink()
    results = RunResults.read(folder)
    assert [job.done for job in results.jobs] == [True, False]
    page = check(write_report(folder))
    assert any("Learning curves of 2 trainings" in image for image in page.images)
    assert "1 of 2 trainings are done" in page.text


def test_mixing_speakers_is_said_first_and_one_seed_has_no_interval(make_run: MakeRun, check: Check) -> None:
    protocol = {"name": "stratified", "description": "A random split.", "mixes_speakers": True}
    page = check(write_report(make_run(seeds=(3,), run={"protocol": protocol})))
    assert "Speakers are mixed" in page.text[:1200]
    assert "flatters this run" in page.text
    assert "one seed, so without an interval" in page.text
    assert page.row("Unweighted accuracy (UA)")[2:4] == ["–", "–"]
    assert page.row("Unweighted accuracy (UA)")[5] != "–"
    assert "SD over 3 folds" in page.text


def test_without_speakers_and_with_a_class_that_is_not_tested(make_run: MakeRun, check: Check) -> None:
    protocol = {"name": "folds", "description": "Folds.", "mixes_speakers": None, "speakers_known": False}
    folder = make_run(seeds=(0,), folds=2, speakers=False, run={"protocol": protocol})
    for path in folder.glob("folds/*/predictions.csv"):
        table = pd.read_csv(path, dtype=str)
        table[table["label"] != "calm"].to_csv(path, index=False)
    page = check(write_report(folder))
    assert page.row("calm")[1] == "–"
    assert page.row("calm")[4] == "0"
    assert "The corpus does not name speakers" in page.text
    assert "speakers" not in page.ids
    assert len(page.images) == 5


def test_names_that_look_like_numbers_or_gaps(make_run: MakeRun) -> None:
    folder = make_run(classes=["1", "NA", "nan", "null"], seeds=(0,), folds=1)
    results = RunResults.read(folder)
    assert results.predictions()["label"].unique().tolist() == ["1", "NA", "nan", "null"]
    assert "01" in results.predictions()["speaker"].tolist()
    assert results.summary is not None


def test_not_a_run_folder(tmp_path: Path, make_run: MakeRun) -> None:
    for folder, match in ((tmp_path / "none", "does not exist"), (tmp_path, "has no run.json")):
        with pytest.raises(ResultsError, match=match) as error:
            write_report(folder)
        assert "\n" not in str(error.value)
    damaged = make_run(seeds=(0,))
    (damaged / "run.json").write_text("{", "utf-8")
    with pytest.raises(ResultsError, match="JSON"):
        write_report(damaged)


# ---------------------------------------------------------------- several runs


def pooling_runs(make_run: MakeRun, seeds: tuple[int, ...] = (0, 1)) -> list[Path]:
    return [
        make_run(f"run-{name}", recipe={"model.pooling": name}, skill=skill, seeds=seeds)
        for name, skill in (("max", 1.0), ("mean", 1.8), ("weighted", 2.6))
    ]


def test_compare(make_run: MakeRun) -> None:
    folders = pooling_runs(make_run)
    table = compare(folders)
    assert table["run"].tolist() == ["run-max", "run-mean", "run-weighted"]
    assert table["model.pooling"].tolist() == ["max", "mean", "weighted"]
    assert table["ua"].is_monotonic_increasing
    for folder, row in zip(folders, table.to_dict("records"), strict=True):
        summary = RunResults.read(folder).summary
        assert summary is not None
        assert row["ua"] == pytest.approx(summary["ua"]["mean"])
        assert row["ua_low"] == pytest.approx(summary["ua"]["low"])
        assert (row["folds"], row["seeds"], row["parameters"]) == (3, 2, 409124)
    assert table["shared"].all()


def test_compare_scores_only_what_all_runs_have_done(make_run: MakeRun, check: Check) -> None:
    whole = make_run("whole", seeds=(0, 1))
    part = make_run("part", seeds=(0,), done={("fold0", 0), ("fold1", 0)})
    table = compare([whole, part])
    assert table["folds"].tolist() == [2, 2]
    assert table["seeds"].tolist() == [1, 1]
    assert len(set(table["ua"])) == 1  # the same predictions, since only skill and settings would change them
    assert table["ua_sd"].isna().all()
    page = check(write_comparison([whole, part], whole.parent))
    assert "only the 2 folds and 1 seed that all of them have done are compared" in page.text


def test_comparison_page(make_run: MakeRun, tmp_path: Path, check: Check) -> None:
    path = write_comparison(pooling_runs(make_run), tmp_path / "out")
    assert path == tmp_path / "out" / "comparison.html"
    page = check(path)
    assert "Validation items choose pooling = weighted" in page.text
    assert page.row("run-max")[4:6] == ["58.0", "66.2"]  # beside Table 4
    assert "compare the order, not the values" in page.text
    # Against the first run, on the same folds and seeds.
    won = page.row("pooling = weighted")
    assert won[1].startswith("+")
    assert won[3] == "6 / 0"
    assert won[5] == "Higher than the reference."
    assert not any(row[:1] == ["pooling = max"] for row in page.rows)
    assert "Told apart from pooling = max with the same seeds and folds, higher: mean and weighted." in page.text
    table = pd.read_csv(path.with_suffix(".csv"))
    assert table["model.pooling"].tolist() == ["max", "mean", "weighted"]


def test_runs_that_differ_in_two_settings_are_called_by_both(make_run: MakeRun, tmp_path: Path, check: Check) -> None:
    folders = [
        make_run(f"run-{n}", seeds=(0,), folds=2, recipe={"model.pooling": pooling, "model.jump": jump})
        for n, (pooling, jump) in enumerate((("max", "cat"), ("max", "sum"), ("mean", "cat")))
    ]
    page = check(write_comparison(folders, tmp_path / "out"))
    assert page.row("pooling = max, jump = sum")
    assert page.row("pooling = mean, jump = cat")


def test_comparison_of_one_seed_and_of_different_data(make_run: MakeRun, tmp_path: Path, check: Check) -> None:
    folders = pooling_runs(make_run, seeds=(0,))
    page = check(write_comparison(folders, tmp_path / "one.html"))
    assert "small differences may be chance" in page.text
    other = make_run("other", classes=["a", "b", "c"], seeds=(0,))
    page = check(write_comparison([folders[0], other], tmp_path / "other.html"))
    assert "cannot be compared" in page.text
    assert "Differences" not in page.text
    page = check(write_comparison(folders[:1], tmp_path / "alone.html"))
    assert "run-max reaches an unweighted accuracy" in page.text


def test_comparison_needs_finished_runs(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no run to compare"):
        compare([])
    nothing = make_run("nothing", done=set())
    with pytest.raises(ResultsError, match="nothing to compare"):
        write_comparison([nothing], tmp_path)


def test_varied_keys() -> None:
    a = {"name": "a", "graph": {"k": 5, "deep": {"x": 1}}, "training": {"threads": 1}}
    b = {"name": "b", "graph": {"k": 10, "deep": {"x": 1}}, "training": {"threads": 2}}
    assert flatten(a)["graph.deep.x"] == 1
    assert varied([a, b]) == ["graph.k"]
    assert varied([a, {"graph": {"k": 5}}]) == ["graph.deep.x"]
