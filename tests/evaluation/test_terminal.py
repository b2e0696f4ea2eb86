"""What the command line prints of runs and comparisons on sounds."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from graphophone import cli
from graphophone.evaluation.comparison import compare, short_names
from graphophone.evaluation.results import RunResults
from graphophone.features import list_extractors
from graphophone.runs import Run

MakeRun = Callable[..., Path]


def finished(folder: Path) -> Run:
    """A run as `graphophone evaluate` gives it."""
    results = RunResults.read(folder)
    assert results.summary is not None
    metrics = json.loads(json.dumps(results.summary))
    jobs = {(job.fold, job.seed): job.metrics for job in results.done}
    for fold in metrics["folds"]:
        job = jobs[fold["fold"], fold["seed"]]
        assert job is not None
        fold |= {key: job[key] for key in ("validation", "best_epoch", "seconds_per_epoch")}
    return Run(folder, {**metrics, "complete": results.complete})


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_labels_of_a_sweep_keep_their_settings_whole(
    make_sound_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"lhgnn-esc50-K-{k}-P-{p}" for k, p in ((5, 25), (10, 25), (10, 50))]
    keys = ["model.K", "model.P"]
    assert short_names(names, keys) == ["K-5-P-25", "K-10-P-25", "K-10-P-50"]
    # What all runs have in common of the settings stays, too.
    assert short_names(names[1:], keys) == ["K-10-P-25", "K-10-P-50"]
    assert short_names(["a-one", "a-two"]) == ["one", "two"]
    assert short_names(["one", "other"], ["model.K"]) == ["one", "other"]
    assert short_names(["K-1-P-1", "K-1-P-2"], keys) == ["K-1-P-1", "K-1-P-2"]
    assert short_names(["a-K-10-P-25", "a-K-10-P-50"], ["model.P"]) == ["25", "50"]  # of one the value is enough
    runs = [
        make_sound_run(f"lhgnn-K-10-P-{p}-k-{k}", classes=3, items=30, seeds=(0,), recipe={"model.P": p, "model.k": k})
        for p, k in ((25, 5), (25, 9), (50, 9))
    ]
    assert cli.main(["compare", *map(str, runs)]) == cli.OK
    text = printed(capsys)
    assert " P-25-k-5 " in text
    assert " P-50-k-9 " in text


def test_numbers_beside_a_setting_that_is_left_open_stay_what_they_are(
    make_sound_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        make_sound_run(f"gru-{future}", classes=3, items=30, seeds=(0,), recipe={"model.future": future})
        for future in (None, 0, 12)
    ]
    assert compare(runs)["model.future"].tolist() == [None, 0, 12]
    assert cli.main(["compare", *map(str, runs)]) == cli.OK
    text = printed(capsys)
    assert " None – " in text
    assert " 0 0 " in text
    assert " 12 12 " in text
    assert "nan" not in text


def test_commands_name_every_extractor(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["features", "--help"])
    text = printed(capsys)
    assert [name for name in list_extractors() if name not in text] == []


def test_run_of_tags(make_sound_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(make_sound_run(classes=6, items=60, empty=1))
    cli._show_run(run)
    text = printed(capsys)
    assert "fold seed mAP mAUC validation mAP epoch kept s/epoch" in text
    assert f"mAP {run.metrics['map']['mean']:.3f} (test items of all folds pooled, sd over seeds" in text
    assert "left out of the means, without a positive test item: sound 005" in text


def test_run_without_validation(make_sound_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_sound_run(
        kind="classification", corpus="esc10", classes=10, items=40, folds=5, seeds=(0,), validated=False, equal=True
    )
    run = finished(folder)
    cli._show_run(run)
    text = printed(capsys)
    assert "fold seed Accuracy % UA % s/epoch" in text
    assert "there were no validation items: nothing was selected" in text
    assert f"Accuracy {100 * run.metrics['wa']['mean']:.1f} % (test items" in text


def test_comparisons(make_sound_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    tags = [make_sound_run(f"tags-{n}", classes=3, items=30, skill=n, recipe={"model.size": f"{n}"}) for n in (1, 2)]
    assert cli.main(["compare", *map(str, tags)]) == cli.OK
    text = printed(capsys)
    assert "mAP" in text
    assert "val. mAP" in text
    assert "UA" not in text
    plain = [
        make_sound_run(
            f"esc-{n}", kind="classification", corpus="esc10", classes=4, items=20, folds=5, seeds=(0,),
            validated=False, recipe={"model.size": f"{n}"},
        )
        for n in (1, 2)
    ]  # fmt: skip
    assert cli.main(["compare", *map(str, plain)]) == cli.OK
    text = printed(capsys)
    assert "Accuracy %" in text
    assert "val." not in text
    assert cli.main(["compare", str(tags[0]), str(plain[0])]) == cli.FAILED
    assert "compare runs of one kind" in " ".join(capsys.readouterr().err.split())
