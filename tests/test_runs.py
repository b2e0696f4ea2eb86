import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from safetensors.torch import load_file

from graphophone import jobs, runs
from graphophone.corpora import Problem
from graphophone.corpora.problems import write_problems
from graphophone.inference import Recognizer
from graphophone.recipes import load_recipe


def quietly(recipe, output, **options):
    return runs.train(recipe, output=output, progress=False, **options)


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_tone_recipe):
    """One complete run that several tests look at."""
    return quietly(make_tone_recipe(), tmp_path_factory.mktemp("runs"))


def test_it_learns_and_writes_what_a_run_holds(finished):
    assert finished.metrics["ua"]["mean"] > 0.9
    assert finished.metrics["complete"]
    names = {path.name for path in finished.folder.iterdir()}
    assert {"recipe.yaml", "run.json", "metrics.json", "predictions.csv", "report.html", "model", "folds"} <= names
    predictions = pd.read_csv(finished.folder / "predictions.csv")
    assert len(predictions) == 32
    assert predictions["id"].is_unique
    assert set(predictions.columns) >= {"id", "speaker", "label", "predicted", "fold", "seed", "p_low", "p_high"}
    described = json.loads((finished.folder / "run.json").read_text("utf-8"))
    assert described["corpus"]["items"] == 32
    assert described["corpus"]["speakers"] == 4
    assert described["finished"] is not None
    assert len(described["folds"]) == 4
    assert yaml.safe_load((finished.folder / "recipe.yaml").read_text("utf-8"))["graph"]["k"] == 3


def test_each_fold_keeps_speakers_apart_and_its_curves(finished):
    for folder in (finished.folder / "folds").iterdir():
        test = set(pd.read_csv(folder / "predictions.csv")["speaker"])
        validation = set(pd.read_csv(folder / "validation.csv")["speaker"])
        assert len(test) == len(validation) == 1
        assert not test & validation
        curves = pd.read_csv(folder / "curves.csv")
        assert curves["epoch"].tolist() == list(range(10))
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
        assert metrics["best_epoch"] == curves["validation_ua"].idxmax()
        assert metrics["validation"]["ua"] == pytest.approx(curves["validation_ua"].max(), abs=1e-6)


def test_the_model_folder_alone_predicts_as_the_run_did(finished, tones):
    best = max(finished.metrics["folds"], key=lambda fold: fold["validation"]["ua"])
    told = pd.read_csv(finished.folder / "folds" / f"{best['fold']}-seed0" / "predictions.csv")
    answers = Recognizer.from_pretrained(finished.model).process_files([tones / item for item in told["id"]])
    np.testing.assert_allclose(answers["p_low"], told["p_low"], atol=1e-5)


def test_the_model_card_speaks_of_the_whole_evaluation(finished):
    card = (finished.model / "README.md").read_text("utf-8")
    best = max(finished.metrics["folds"], key=lambda fold: fold["validation"]["ua"])
    assert f"Weights: {best['fold']}, seed 0, trained on 16 of the items, the one of 4 trainings" in card
    described = json.loads((finished.model / "pipeline.json").read_text("utf-8"))
    assert described["metrics"]["ua"]["mean"] == pytest.approx(finished.metrics["ua"]["mean"])
    assert not list(finished.folder.glob("*.tmp"))


def test_a_finished_run_is_not_trained_again(finished, tone_recipe, monkeypatch):
    monkeypatch.setattr(jobs.Trainer, "fit", None)
    again = quietly(tone_recipe, finished.folder.parent)
    assert again.metrics == finished.metrics


def test_a_run_of_before_there_were_label_budgets_is_still_that_run(finished, tone_recipe, tmp_path, monkeypatch):
    run = tmp_path / finished.folder.name
    shutil.copytree(finished.folder, run)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text("utf-8"))
    for section, keys in (("protocol", ("labelled", "turns")), ("corpus", ("labels", "unlabelled"))):
        for key in keys:
            del recipe[section][key]
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    described = json.loads((run / "run.json").read_text("utf-8"))
    del described["corpus"]["problem_counts"], described["protocol"]["options"]
    (run / "run.json").write_text(json.dumps(described), "utf-8")
    (run / "problems.csv").unlink()
    monkeypatch.setattr(jobs.Trainer, "fit", None)
    assert quietly(tone_recipe, tmp_path).metrics == finished.metrics
    with pytest.raises(runs.RunError, match=r"protocol\.labelled is 1\.0 there and 0\.5 here"):
        quietly({**tone_recipe, "protocol": {**tone_recipe["protocol"], "labelled": 0.5}}, tmp_path)


def test_label_budgets_and_turns_in_a_run(tone_recipe, tmp_path):
    tone_recipe["training"]["epochs"] = 1
    tone_recipe |= {"seeds": [0, 1], "protocol": {**tone_recipe["protocol"], "labelled": 0.5, "turns": 2}}
    run = quietly(tone_recipe, tmp_path)
    assert run.metrics["complete"]
    assert run.metrics["ua"]["n"] == 2
    told = [(fold["seed"], fold["fold"], fold["items"]["train"]) for fold in run.metrics["folds"]]
    assert sorted(seed for seed, _, _ in told) == [0, 0, 1, 1]
    assert len({fold for _, fold, _ in told}) == 4, "the second seed does the folds that the first one leaves"
    assert {train for _, _, train in told} == {8}, "half of 16"
    described = json.loads((run.folder / "run.json").read_text("utf-8"))
    assert "Labels of 8 of 16 training items are used" in described["protocol"]["description"]
    assert "Labels of 8 of 16 training items are used" in run.report.read_text("utf-8")
    folds = described["protocol"]["folds"]
    assert [(fold["name"], fold["seeds"]) for fold in folds] == [(fold, [seed]) for seed, fold, _ in told]
    # A seed that comes later does the splits of the first one again, with other labels.
    again = quietly({**tone_recipe, "seeds": [2]}, tmp_path, folds=[0])
    described = json.loads((again.folder / "run.json").read_text("utf-8"))
    folds = described["protocol"]["folds"]
    assert described["seeds"] == sorted({seed for fold in folds for seed in fold["seeds"]}) == [0, 1, 2]
    assert [fold["name"] for fold in folds if 0 in fold["seeds"]] == [
        fold["name"] for fold in folds if 2 in fold["seeds"]
    ]


def test_notes_tell_which_seeds_they_are_of(tone_recipe):
    recipe = load_recipe({**tone_recipe, "seeds": [0, 1, 2], "protocol": {**tone_recipe["protocol"], "turns": 1}})
    corpus = runs.load_corpus(recipe.corpus)
    protocol = jobs.make_protocol(recipe)
    splits = {seed: protocol.splits(corpus, seed=seed) for seed in recipe.seeds}
    noted = {
        seed: [dataclasses.replace(split, name="one", notes=("common", *(["rare"] if seed else []))) for split in own]
        for seed, own in splits.items()
    }
    facts = runs._protocol_of(recipe, corpus, noted)
    assert facts["notes"] == ["one: common", "one: rare (seeds 1 and 2)"]
    assert facts["mixes_speakers"] is False
    tested = {tuple(fold["test_speakers"]) for fold in facts["folds"]}
    assert tested == {tuple(sorted(set(corpus.table["speaker"].iloc[own[0].test]))) for own in splits.values()}
    assert sorted(seed for fold in facts["folds"] for seed in fold["seeds"]) == [0, 1, 2]


def test_another_recipe_or_corpus_under_the_same_name_is_refused(finished, tone_recipe):
    other = {**tone_recipe, "graph": {"name": "cycle_topk", "k": 4}}
    with pytest.raises(runs.RunError, match=r"graph\.k is 3 there and 4 here.*--overwrite"):
        quietly(other, finished.folder.parent)
    fewer = {**tone_recipe, "corpus": {**tone_recipe["corpus"], "speaker": r"([a-d])_[0-2]"}}
    with pytest.raises(runs.RunError, match=r"corpus\.speaker"):
        quietly(fewer, finished.folder.parent)


def test_folds_one_by_one_then_seeds_add_up(tone_recipe, tmp_path):
    tone_recipe["training"]["epochs"] = 2
    with pytest.raises(runs.RunError, match=r"no fold 7.*0 to 3"):
        quietly(tone_recipe, tmp_path, folds=[7])
    first = quietly(tone_recipe, tmp_path, folds=[1])
    assert not first.metrics["complete"]
    assert len(first.metrics["folds"]) == 1
    whole = quietly(tone_recipe, tmp_path, workers=2)
    assert whole.metrics["complete"]
    more = quietly({**tone_recipe, "seeds": [1]}, tmp_path, folds=[0])
    assert more.metrics["whole_seeds"] == [0]  # the other seed waits for its other folds
    assert more.metrics["ua"] == whole.metrics["ua"]
    assert not more.metrics["complete"]
    both = quietly({**tone_recipe, "seeds": [0, 1]}, tmp_path)
    assert both.metrics["ua"]["n"] == 2
    assert both.metrics["complete"]


@pytest.mark.parametrize("averaging", ["none", "ema"])
def test_an_interrupted_training_ends_as_an_undisturbed_one(tone_recipe, tmp_path, monkeypatch, averaging):
    tone_recipe["training"] |= {"averaging": averaging, "ema_decay": 0.9, "patience": 4}
    undisturbed = quietly(tone_recipe, tmp_path / "one", folds=[0])

    class PowerError(RuntimeError):
        pass

    step = jobs.EpochKeeper.on_train_epoch_start

    def fail(self, trainer, module):
        step(self, trainer, module)
        if trainer.current_epoch == 3:
            raise PowerError

    with monkeypatch.context() as patch:
        patch.setattr(jobs.EpochKeeper, "on_train_epoch_start", fail)
        with pytest.raises(PowerError):
            quietly(tone_recipe, tmp_path / "two", folds=[0])
    resumed = quietly(tone_recipe, tmp_path / "two", folds=[0])
    assert_same_weights(weights(undisturbed.folder), weights(resumed.folder))
    told = [pd.read_csv(run.folder / "predictions.csv") for run in (undisturbed, resumed)]
    pd.testing.assert_frame_equal(*told)
    drop = ["seconds"]
    curves = [
        pd.read_csv(next((r.folder / "folds").glob("*/curves.csv"))).drop(columns=drop) for r in (undisturbed, resumed)
    ]
    pd.testing.assert_frame_equal(*curves)


def test_a_training_that_stopped_early_is_not_trained_on(tone_recipe, tmp_path, monkeypatch):
    tone_recipe["training"] |= {"epochs": 30, "patience": 2}
    first = quietly(tone_recipe, tmp_path, folds=[0])
    folder = next((first.folder / "folds").iterdir())
    epochs = len(pd.read_csv(folder / "curves.csv"))
    assert epochs < 30
    before = weights(first.folder)
    (folder / "metrics.json").unlink()  # killed between the last epoch and the results
    again = quietly(tone_recipe, tmp_path, folds=[0])
    assert len(pd.read_csv(folder / "curves.csv")) == epochs
    assert_same_weights(before, weights(again.folder))


def test_seeds_decide_and_repeat(tone_recipe, tmp_path):
    tone_recipe["training"]["epochs"] = 2
    one = quietly(tone_recipe, tmp_path / "a", folds=[0])
    same = quietly(tone_recipe, tmp_path / "b", folds=[0])
    other = quietly({**tone_recipe, "seeds": [1]}, tmp_path / "c", folds=[0])
    assert_same_weights(weights(one.folder), weights(same.folder))
    assert any(
        not torch.equal(a, b) for a, b in zip(weights(one.folder).values(), weights(other.folder).values(), strict=True)
    )


def test_bad_files_are_left_out_and_named(tones, tone_recipe, tmp_path):
    root = tmp_path / "corpus"
    shutil.copytree(tones, root)
    (root / "low" / "a_90.wav").write_text("this is text")
    (root / "low" / "b_91.wav").write_bytes(b"")
    good = (root / "high" / "c_0.wav").read_bytes()
    (root / "high" / "c_92.wav").write_bytes(good[: len(good) // 2])
    soundfile.write(root / "low" / "d_93.wav", np.zeros(16000 * 11), 16000)
    soundfile.write(root / "low" / "d_94.wav", np.zeros(8000), 16000)
    tone_recipe["corpus"]["root"] = str(root)
    tone_recipe["training"] |= {"epochs": 1, "max_duration": 10.0}
    run = quietly(tone_recipe, tmp_path / "runs", folds=[0])
    named = {problem.item.split("/")[-1]: problem.reason for problem in run.problems if problem.severity == "error"}
    assert set(named) == {"a_90.wav", "b_91.wav", "c_92.wav", "d_93.wav"}
    assert "11.00 s" in named["d_93.wav"]
    warned = {problem.item.split("/")[-1] for problem in run.problems if problem.severity == "warning"}
    assert warned == {"d_94.wav"}
    described = json.loads((run.folder / "run.json").read_text("utf-8"))["corpus"]
    assert described["items"] == 33
    assert sum(count["items"] for count in described["problem_counts"]) == len(run.problems) == 5
    # Of more problems than run.json lists none is lost.
    many = [Problem(f"x{n}", n, f"file not found: x{n}") for n in range(1500)]
    write_problems(run.folder / "problems.csv", many)
    assert runs.evaluate(run.folder).problems == tuple(many)
    (run.folder / "problems.csv").unlink()
    assert {problem.item for problem in runs.evaluate(run.folder).problems} == {
        problem.item for problem in run.problems
    }


def test_the_gathered_predictions_are_those_of_the_trainings_to_the_last_bit(finished, tmp_path):
    run = tmp_path / "again"
    shutil.copytree(finished.folder, run)
    whole = pd.read_csv(run / "predictions.csv", dtype=str).set_index(["fold", "id"])
    for place in (run / "folds").iterdir():
        part = pd.read_csv(place / "predictions.csv", dtype=str).set_index(["fold", "id"])
        pd.testing.assert_frame_equal(whole.loc[part.index], part)
    # Scores next to each other, next to one half and next to one stay apart.
    first = sorted((run / "folds").iterdir())[0] / "predictions.csv"
    table = pd.read_csv(first)
    near = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(0)), np.float32(1) - np.float32(2**-24)], np.float32)
    table["p_low"] = np.resize(np.concatenate([near, near / 3, near / 3e5]), len(table)).astype(np.float32)
    table["p_high"] = 1 - table["p_low"]
    table.to_csv(first, index=False)
    runs.evaluate(run)
    gathered = pd.read_csv(run / "predictions.csv")
    kept = gathered.set_index("id").loc[table["id"], "p_low"].to_numpy(np.float32)
    assert np.array_equal(kept, table["p_low"].to_numpy(np.float32))
    digits = pd.read_csv(run / "predictions.csv", dtype=str)["p_low"]
    assert digits.str.replace(r"e.*|^0\.0*|\.", "", regex=True).str.len().max() <= 9


def test_folders_that_are_no_runs(tmp_path):
    with pytest.raises(runs.RunError, match=r"not a run folder.*graphophone train"):
        runs.evaluate(tmp_path)


def test_speeds_need_no_more_of_the_user(tone_recipe, tmp_path):
    tone_recipe["training"]["epochs"] = 1
    tone_recipe["augment"] |= {"speeds": [0.9, 1.1], "tempo": 0.1, "crop": 0.8}
    run = quietly(tone_recipe, tmp_path, folds=[0])
    assert run.metrics["folds"][0]["items"] == {"train": 16, "unlabelled": 0, "validation": 8, "test": 8}


def test_kill_9_in_mid_training_then_the_same_command(tone_recipe, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    tone_recipe["training"]["epochs"] = 40
    recipe.write_text(load_recipe(tone_recipe).to_yaml(), "utf-8")

    def start(output):
        words = [sys.executable, "-m", "graphophone", "train", str(recipe), "--folds", "0", "--output", str(output)]
        return subprocess.Popen(
            [*words, "--quiet"], stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )

    killed = start(tmp_path / "killed")
    curves = tmp_path / "killed" / "tones" / "folds"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = list(curves.glob("*/curves.csv"))
        if found and len(found[0].read_text("utf-8").splitlines()) > 4:
            break
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not list(curves.glob("*/metrics.json"))
    assert start(tmp_path / "killed").wait() == 0
    assert start(tmp_path / "whole").wait() == 0
    assert_same_weights(weights(tmp_path / "killed" / "tones"), weights(tmp_path / "whole" / "tones"))


def test_overwrite_never_removes_what_is_no_run(tone_recipe, tmp_path):
    precious = tmp_path / "tones"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work", "utf-8")
    with pytest.raises(runs.RunError, match="something else than a run"):
        quietly(tone_recipe, tmp_path, overwrite=True)
    assert (precious / "thesis.txt").is_file()


def test_a_corpus_whose_speakers_changed_is_another_one(tones, tone_recipe, tmp_path):
    files = sorted(tones.glob("*/*.wav"))
    table = pd.DataFrame(
        {
            "audio": [str(f) for f in files],
            "label": [f.parent.name for f in files],
            "speaker": [f.name[0] for f in files],
        }
    )
    table.to_csv(tmp_path / "table.csv", index=False)
    tone_recipe["corpus"] = {"name": "table", "root": str(tmp_path / "table.csv")}
    tone_recipe["training"]["epochs"] = 1
    quietly(tone_recipe, tmp_path, folds=[0])
    table.assign(speaker=table["speaker"].map(dict(zip("abcd", "bcda", strict=True)))).to_csv(
        tmp_path / "table.csv", index=False
    )
    with pytest.raises(runs.RunError, match="another state of corpus"):
        quietly(tone_recipe, tmp_path, folds=[1])


def test_one_class_or_mixed_up_settings_are_refused_before_any_work(tones, tone_recipe, tmp_path):
    one = tmp_path / "one" / "low"
    one.mkdir(parents=True)
    for path in (tones / "low").glob("*.wav"):
        (one / path.name).write_bytes(path.read_bytes())
    only = {**tone_recipe, "corpus": {**tone_recipe["corpus"], "root": str(one.parent)}}
    with pytest.raises(runs.RunError, match="one class only"):
        quietly(only, tmp_path)
    tone_recipe["features"]["decimate_mode"] = "pick"
    with pytest.raises(runs.RunError, match="decimate_mode"):
        quietly(tone_recipe, tmp_path)
    assert not (tmp_path / "tones").exists()


def test_damaged_files_of_a_run_are_named(finished, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(finished.folder, copy)
    (copy / "run.json").write_text("{", "utf-8")
    with pytest.raises(runs.RunError, match=r"run\.json: damaged"):
        runs.evaluate(copy)


def test_half_precision(tone_recipe, tmp_path):
    tone_recipe["training"] |= {"epochs": 1, "precision": "bf16-mixed"}
    assert 0 <= quietly(tone_recipe, tmp_path, folds=[0]).metrics["ua"]["mean"] <= 1
