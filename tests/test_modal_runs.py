"""Trainings on recordings with transcripts, of which some lack either: what a run holds, and how it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from graphophone import cli, jobs, runs
from graphophone.errors import GraphophoneError
from graphophone.inference import Recognizer
from graphophone.recipes import load_recipe
from graphophone.runs import Run

pytestmark = pytest.mark.usefixtures("vowels")
Recipe = Callable[..., dict[str, Any]]
CLASSES = ["high", "low", "middle"]
P = [f"p_{name}" for name in CLASSES]


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without the page, which is slow to draw and has its own tests."""
    monkeypatch.setattr(runs, "write_report", lambda folder: None)


def quietly(recipe: dict[str, Any], output: Path, **options: Any) -> Run:
    return runs.train(recipe, output=output, progress=False, **{"folds": [0], **options})


def job_folder(run: Run) -> Path:
    return next((run.folder / "folds").iterdir())


def predicted(run: Run, spoken: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions of a run, and the rows of the corpus that they are of."""
    told = pd.read_csv(run.folder / "predictions.csv")
    table = pd.read_csv(spoken, dtype=str).set_index("id").loc[told["id"]].reset_index()
    table["audio"] = [str(spoken.parent / name) if isinstance(name, str) else None for name in table["audio"]]
    return told, table


def assert_same(one: Run, other: Run) -> None:
    """The same weights, known utterances, answers and curves."""
    for name in ("model.safetensors", "references.safetensors"):
        first, second = load_file(one.model / name), load_file(other.model / name)
        assert first.keys() == second.keys()
        for key in first:
            torch.testing.assert_close(first[key], second[key], atol=0, rtol=0, equal_nan=True, msg=key)
    for read in (lambda run: run.folder / "predictions.csv", lambda run: job_folder(run) / "curves.csv"):
        tables = [pd.read_csv(read(run)).drop(columns="seconds", errors="ignore") for run in (one, other)]
        pd.testing.assert_frame_equal(*tables)


def test_it_learns_and_writes_what_a_run_holds(spoken_run: Run, spoken: Path) -> None:
    run = spoken_run
    assert run.metrics["ua"]["mean"] > 0.8
    assert run.report.stat().st_size > 10_000
    measured = json.loads((job_folder(run) / "metrics.json").read_text("utf-8"))
    assert sum(measured["items"].values()) == 120  # whatever an utterance lacks, it takes part
    curves = pd.read_csv(job_folder(run) / "curves.csv")
    losses = curves[["train_loss", "train_loss_both", "train_loss_audio", "train_loss_text"]]
    assert losses.notna().all().all()
    parts = losses.drop(columns="train_loss").sum(axis=1)
    np.testing.assert_allclose(losses["train_loss"], parts, rtol=1e-5)
    assert (losses.iloc[-1] < 0.8 * losses.iloc[0]).all()
    kept = curves.loc[measured["best_epoch"], "validation_weighted_f1"]
    assert kept == pytest.approx(measured["validation"]["weighted_f1"], abs=1e-6)
    told = pd.read_csv(run.folder / "predictions.csv")
    assert told[P].notna().all().all()
    assert [problem.reason.split(":")[0] for problem in run.problems] == ["audio is left out"]
    assert set(run.metrics["controls"]) >= {"logistic_regression", "knn"}


def test_the_model_answers_as_it_was_tested_and_knows_training_items_only(spoken_run: Run, spoken: Path) -> None:
    told, table = predicted(spoken_run, spoken)
    recognizer = Recognizer.from_pretrained(spoken_run.model, workers=1)
    answers = recognizer.process_table(table)
    assert not answers.attrs["failures"]
    np.testing.assert_allclose(answers[P], told[P], atol=1e-6)
    assert answers["label"].tolist() == told["predicted"].tolist()
    # The damaged recording was tested by its text, and is answered for by it.
    damaged = table.index[table["id"] == "u10"]
    assert len(damaged)
    assert answers.loc[damaged, "used"].tolist() == ["text"]
    assert [problem.row for problem in answers.attrs["warnings"]] == damaged.tolist()
    used = answers["used"].value_counts().to_dict()
    assert used == {
        "audio": int(table["text"].isna().sum()),
        "text": int(table["audio"].isna().sum()) + 1,
        "text and audio": int((table["text"].notna() & table["audio"].notna()).sum()) - 1,
    }
    one = pd.concat([recognizer.process_table(table.iloc[[i]]) for i in range(0, len(table), 3)])
    np.testing.assert_allclose(one[P], told[P].iloc[::3], atol=1e-6)
    held = pd.read_csv(job_folder(spoken_run) / "validation.csv")["id"]
    assert set(recognizer.bundle.references[0].id).isdisjoint({*told["id"], *held})


@pytest.mark.parametrize("options", [{"graph": "typed"}, {"gnn": "sage", "num_layers": 1}])
def test_other_networks_answer_as_they_were_tested(
    make_spoken_recipe: Recipe, spoken: Path, tmp_path: Path, no_report: None, options: dict[str, Any]
) -> None:
    recipe = make_spoken_recipe(**options)
    recipe["training"]["epochs"] = 8
    run = quietly(recipe, tmp_path)
    assert run.metrics["ua"]["mean"] > 0.6
    told, table = predicted(run, spoken)
    np.testing.assert_allclose(
        Recognizer.from_pretrained(run.model, workers=1).process_table(table)[P], told[P], atol=1e-6
    )


def test_an_interrupted_training_ends_as_an_undisturbed_one(
    make_spoken_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    recipe = make_spoken_recipe()
    recipe["training"] |= {"epochs": 7, "patience": 5}
    recipe["task"] |= {"plateau_patience": 0}
    undisturbed = quietly(recipe, tmp_path / "one")
    step = jobs.EpochKeeper.on_train_epoch_start

    class PowerError(RuntimeError):
        pass

    for failing in (2, 5):

        def fail(self: Any, trainer: Any, module: Any, epoch: int = failing) -> None:
            step(self, trainer, module)
            if trainer.current_epoch == epoch:
                raise PowerError

        with monkeypatch.context() as patch:
            patch.setattr(jobs.EpochKeeper, "on_train_epoch_start", fail)
            with pytest.raises(PowerError):
                quietly(recipe, tmp_path / "two")
    assert_same(undisturbed, quietly(recipe, tmp_path / "two"))


def test_seeds_decide(make_spoken_recipe: Recipe, tmp_path: Path, no_report: None) -> None:
    recipe = make_spoken_recipe()
    recipe["training"]["epochs"] = 2
    one, again = (quietly(recipe, tmp_path / name) for name in ("one", "two"))
    assert_same(one, again)
    other = quietly({**recipe, "seeds": [1]}, tmp_path / "other")
    first, second = (load_file(run.model / "model.safetensors") for run in (one, other))
    assert not torch.equal(first["classifier.0.weight"], second["classifier.0.weight"])


def test_commands_on_a_run(spoken_run: Run, spoken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(spoken_run.folder)
    assert cli.main(["evaluate", folder]) == cli.OK
    assert cli.main(["report", folder]) == cli.OK
    assert cli.main(["compare", folder, folder, "--output", str(tmp_path / "page.html")]) == cli.OK
    assert (tmp_path / "page.html").is_file()
    capsys.readouterr()
    assert cli.main(["evaluate", folder, "--corpus", "table", "--root", str(spoken), "--json"]) in (cli.OK, cli.PARTIAL)
    assert json.loads(capsys.readouterr().out)["ua"] > 0.8


def test_noise_changes_what_is_heard_and_not_what_is_said(
    make_spoken_recipe: Recipe, spoken: Path, tmp_path: Path, no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphophone import robustness

    monkeypatch.setattr(robustness, "write_report", lambda folder: None)
    recipe = make_spoken_recipe()
    recipe["training"]["epochs"] = 5
    run = quietly(recipe, tmp_path)
    found = robustness.robustness(run.folder, noises=["white"], snrs=[0.0], progress=False)
    assert found.content["notes"] == []  # clean recordings are answered for as in the run's own test
    noise = job_folder(run) / "noise"
    clean, noisy = (pd.read_csv(next(noise.glob(f"{name}*.csv"))).set_index("id") for name in ("clean", "white"))
    _, table = predicted(run, spoken)
    moved = (clean[P] - noisy[P]).abs().max(axis=1)
    heard = table.set_index("id")["audio"].notna() & (table.set_index("id").index != "u10")
    assert (moved[~heard] < 1e-6).all()
    assert (moved[heard] > 1e-3).mean() > 0.9


def test_a_model_without_sound_has_no_noise(make_spoken_recipe: Recipe, tmp_path: Path, no_report: None) -> None:
    from graphophone.robustness import robustness

    recipe = make_spoken_recipe(modality="text", alone=False)
    recipe["features"] = {"name": "modalities", "text": "vowels"}
    recipe["training"]["epochs"] = 2
    run = quietly(recipe, tmp_path)
    assert Recognizer.from_pretrained(run.model).process_text("aaee")["used"].tolist() == ["text"]
    with pytest.raises(GraphophoneError, match="hears no recordings"):
        robustness(run.folder, noises=["white"], progress=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.alone=false"], r"items lack text, the first u6: set model\.alone to true"),
        (["--graph.name=signed"], r"set graph\.name to modal_knn"),
        (["--features.text=logmel128"], r"logmel128 reads signal, not text"),
        (["--model.graph=typed", "--graph.direction=symmetric"], "set it to in"),
        (["--graph.direction=reference"], r"set task\.eval_scope to split"),
    ],
)
def test_what_does_not_fit_is_one_line(
    make_spoken_recipe: Recipe, tmp_path: Path, no_report: None, words: list[str], message: str
) -> None:
    with pytest.raises(GraphophoneError, match=message) as caught:
        quietly(load_recipe(make_spoken_recipe(), words), tmp_path)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
