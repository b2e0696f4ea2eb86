import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml

from graphophone import cli
from graphophone.corpora import Problem
from graphophone.features import FeaturePipeline, Standardizer, create_extractor
from graphophone.graphs import create_graph
from graphophone.inference import save_bundle
from graphophone.models import create_model
from graphophone.recipes import load_recipe


@pytest.fixture(scope="module")
def trained(make_tone_recipe, tmp_path_factory):
    """A run made by the command line: its folder, the recipe file and the runs' folder."""
    output = tmp_path_factory.mktemp("cli")
    recipe = output / "recipe.yaml"
    recipe.write_text(load_recipe(make_tone_recipe()).to_yaml(), "utf-8")
    assert cli.main(["train", str(recipe), "--output", str(output), "--folds", "0", "1", "--quiet"]) == cli.OK
    return output / "tones", recipe, output


@pytest.fixture(scope="module")
def mixed_folder(tones, tmp_path_factory):
    """Good recordings, and one of every bad kind among them."""
    folder = tmp_path_factory.mktemp("mixed")
    good = tones / "low" / "a_0.wav"
    shutil.copy(good, folder / "good.wav")
    signal, rate = soundfile.read(good)
    soundfile.write(folder / "studio.wav", np.repeat(np.stack([signal, signal], 1), 6, axis=0), 6 * rate, "PCM_24")
    (folder / "text.wav").write_text("this is a text file")
    (folder / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "whole.flac", np.random.default_rng(0).normal(0, 0.1, 32000), 16000)
    (folder / "truncated.flac").write_bytes((folder / "whole.flac").read_bytes()[:20000])
    (folder / "whole.flac").unlink()
    soundfile.write(folder / "short.wav", signal[:160], 16000)
    soundfile.write(folder / "silent.wav", np.zeros(16000), 16000)
    return folder


def test_help_of_every_command(capsys):
    for words in (
        *(
            ["--help"],
            ["train", "--help"],
            ["predict", "--help"],
            ["corpora", "--help"],
            ["corpora", "check", "--help"],
        ),
        *(
            [name, "--help"]
            for name in ("sweep", "evaluate", "report", "compare", "timeline", "explain", "features", "finetune")
        ),
        *([name, "--help"] for name in ("export", "robustness", "models", "recipes", "demo")),
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
        assert stop.value.code == 0
        assert "graphophone" in capsys.readouterr().out


def test_wrong_words_are_one_line_and_code_2(capsys):
    for words in (
        ["trian"],
        ["predict"],
        ["predict", "m", "f.wav", "--formt", "csv"],
        ["compare", "a", "--out", "b", "--x"],
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
        assert stop.value.code == cli.USAGE
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert cli.main([]) == cli.USAGE


def test_errors_are_one_line_and_code_1(capsys, tmp_path):
    for words, text in (
        (["train", "glnn-prosodi"], "Did you mean 'glnn-prosody'"),
        (["train", "glnn-ravdess", "--corpus.root", str(tmp_path / "no")], "no"),
        (["evaluate", str(tmp_path)], "not a run folder"),
        (["predict", str(tmp_path / "none"), "x.wav"], "none"),
        (["corpora", "check", "ravdess"], "--root"),
        (["corpora", "check", "nothing"], "unknown corpus 'nothing'"),
    ):
        assert cli.main(words) == cli.FAILED, words
        message = capsys.readouterr().err
        assert text in message
        assert "Traceback" not in message
        assert len(message.strip().splitlines()) == 1


def test_debug_shows_the_traceback(capsys, tmp_path):
    assert cli.main(["evaluate", str(tmp_path), "--debug"]) == cli.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_print_config_is_a_recipe(capsys, tmp_path):
    assert cli.main(["train", "glnn-ravdess", "--print_config", "--graph.k", "15"]) == cli.OK
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["graph"]["k"] == 15
    (tmp_path / "again.yaml").write_text(printed, "utf-8")
    assert load_recipe(tmp_path / "again.yaml").to_yaml() == printed


def test_lists(capsys):
    for words, text in ((["models"], "glnn"), (["recipes"], "glnn-ravdess"), (["corpora", "list"], "ravdess")):
        assert cli.main(words) == cli.OK
        assert text in capsys.readouterr().out


def test_train_then_evaluate_and_report(trained, capsys):
    folder, recipe, output = trained
    assert cli.main(["train", str(recipe), "--output", str(output), "--folds", "0", "1"]) == cli.OK
    captured = capsys.readouterr()
    assert "2 of 2 trainings are done already" in captured.err
    assert "UA" in captured.out
    assert cli.main(["evaluate", str(folder), "--json"]) == cli.OK
    assert json.loads(capsys.readouterr().out)["ua"]["n"] == 1
    (folder / "report.html").unlink()
    assert cli.main(["report", str(folder)]) == cli.OK
    assert (folder / "report.html").is_file()


def test_evaluate_on_another_corpus(trained, tones, capsys):
    assert cli.main(["evaluate", str(trained[0]), "--corpus", "folder", "--root", str(tones)]) == cli.OK
    assert "32 items of tones" in capsys.readouterr().out


def test_predict_processes_the_good_and_lists_the_bad(trained, mixed_folder, capsys):
    assert cli.main(["predict", str(trained[0]), str(mixed_folder), "--format", "csv"]) == cli.PARTIAL
    captured = capsys.readouterr()
    answers = pd.read_csv(io.StringIO(captured.out))
    assert {Path(file).name for file in answers["file"]} == {"good.wav", "studio.wav", "silent.wav"}
    assert answers.set_index(answers["file"].map(lambda f: Path(f).name)).loc["good.wav", "label"] == "low"
    for name, reason in (("text", "no sound"), ("empty", "empty"), ("truncated", "truncated"), ("short", "short")):
        (line,) = [line for line in captured.err.splitlines() if f"{name}." in line and line.startswith("error")]
        assert reason in line
    assert any("silent.wav" in line and line.startswith("warning") for line in captured.err.splitlines())
    assert "4 items left out" in captured.err


def test_predict_writes_every_format_and_fails_when_nothing_is_good(trained, mixed_folder, tmp_path, capsys):
    good = str(mixed_folder / "good.wav")
    assert cli.main(["predict", str(trained[0]), good]) == cli.OK
    assert "low" in capsys.readouterr().out
    assert cli.main(["predict", str(trained[0]), good, "--format", "json"]) == cli.OK
    (row,) = json.loads(capsys.readouterr().out)["results"]
    assert row["label"] == "low"
    assert row["probabilities"]["low"] > 0.5
    target = tmp_path / "answers.csv"
    assert cli.main(["predict", str(trained[0]), good, "--format", "csv", "--output", str(target)]) == cli.OK
    assert len(pd.read_csv(target)) == 1
    assert cli.main(["predict", str(trained[0]), str(mixed_folder / "empty.wav")]) == cli.FAILED


def test_predict_of_nothing_that_is_there_prints_no_table(trained, tmp_path, capsys):
    words = ["predict", str(trained[0]), str(tmp_path / "gone.wav"), str(tmp_path / "lost.wav")]
    capsys.readouterr()
    assert cli.main(words) == cli.FAILED
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == [
        f"error {tmp_path / name}" for name in ("gone.wav", "lost.wav")
    ]
    assert lines[2:] == ["2 items left out"]
    # What programs read keeps its form.
    assert cli.main([*words, "--format", "csv"]) == cli.FAILED
    assert capsys.readouterr().out.startswith("file,")
    target = tmp_path / "answers.json"
    assert cli.main([*words, "--output", str(target)]) == cli.FAILED
    document = json.loads(target.read_text("utf-8"))
    assert document["results"] == []
    assert len(document["failures"]) == 2
    assert cli.main([*words, "--output", str(tmp_path / "answers.txt")]) == cli.FAILED
    assert not (tmp_path / "answers.txt").exists()


def test_timeline_and_explain(trained, tones, tmp_path, capsys):
    parts = [soundfile.read(tones / label / "b_1.wav")[0] for label in ("low", "high", "low")]
    soundfile.write(tmp_path / "call.wav", np.concatenate([np.tile(part, 8) for part in parts]), 16000)
    target = tmp_path / "call.txt"
    words = ["timeline", str(trained[0]), str(tmp_path / "call.wav"), "--window", "0.5", "--hop", "0.5", "--segments"]
    assert cli.main([*words, "--format", "audacity", "--output", str(target)]) == cli.OK
    labels = [line.split("\t")[2] for line in target.read_text("utf-8").splitlines()]
    assert labels[0].startswith("low")
    assert labels[-1].startswith("low")
    assert any(label.startswith("high") for label in labels)
    picture = tmp_path / "why.png"
    words = ["explain", str(trained[0]), str(tones / "high" / "a_0.wav"), "--output", str(picture), "--steps", "8"]
    assert cli.main([*words, "--csv", str(tmp_path / "why.csv")]) == cli.OK
    assert picture.stat().st_size > 10_000
    assert len(pd.read_csv(tmp_path / "why.csv")) > 5


def test_sweep_and_compare(trained, tmp_path, capsys):
    _, recipe, _ = trained
    words = ["sweep", str(recipe), "--vary", "model.pooling=mean,max", "--folds", "0", "--training.epochs", "2"]
    assert cli.main([*words, "--output", str(tmp_path), "--quiet"]) == cli.OK
    folders = [tmp_path / f"tones-pooling-{name}" for name in ("mean", "max")]
    assert all((folder / "report.html").is_file() for folder in folders)
    capsys.readouterr()
    page = tmp_path / "page.html"
    assert cli.main(["compare", *map(str, folders), "--output", str(page)]) == cli.OK
    printed = capsys.readouterr().out
    assert "\n mean " in printed
    assert "\n max " in printed
    assert page.is_file()
    with pytest.raises(SystemExit) as stop:
        cli.main(["sweep", str(recipe), "--vary", "model.pooling"])
    assert stop.value.code == cli.USAGE


def test_corpora_check(tones, tmp_path, capsys):
    assert cli.main(["corpora", "check", "folder", "--root", str(tones)]) == cli.OK
    assert "low" in capsys.readouterr().out
    root = tmp_path / "corpus"
    shutil.copytree(tones, root)
    (root / "low" / "bad.wav").write_text("text")
    words = ["corpora", "check", "folder", "--root", str(root), "--option", "speaker=([a-d])_", "--json"]
    assert cli.main(words) == cli.PARTIAL
    assert "bad.wav" in capsys.readouterr().out


def test_features(tones, capsys):
    assert cli.main(["features", "fbank", "--corpus", "folder", "--root", str(tones), "--workers", "1"]) == cli.OK
    assert "real time" in capsys.readouterr().out
    assert cli.main(["features", "fbank", "--corpus", "folder", "--root", str(tones), "--workers", "1"]) == cli.OK
    assert "cached" in capsys.readouterr().out
    assert cli.main(["features", "--info"]) == cli.OK
    assert cli.main(["features", "--clear"]) == cli.OK


def test_features_constants(tones, tmp_path, capsys):
    """What is measured is the training part, and what is printed is a recipe's."""
    paths = sorted(tones.rglob("*.wav"))
    table = pd.DataFrame({"audio": paths, "label": [path.parent.name for path in paths], "split": "train"})
    words = ["features", "fbank", "--workers", "1", "--constants", "--corpus"]
    assert cli.main([*words, "folder", "--root", str(tones)]) == cli.OK
    everything = capsys.readouterr().out
    assert "32 clips, " in everything
    assert "features: {frames: 64}" in everything
    table.loc[1:, "split"] = "test"
    table.to_csv(tmp_path / "parts.csv", index=False)
    assert cli.main([*words, "table", "--root", str(tmp_path / "parts.csv")]) == cli.OK
    first = create_extractor("fbank")(*soundfile.read(paths[0], dtype="float32"))
    printed = re.search(
        r"1 clips of the training part, (\d+) frames: mean (\S+), deviation (\S+)", capsys.readouterr().out
    )
    expected = [len(first), first.mean(), first.std()]
    np.testing.assert_allclose([float(number) for number in printed.groups()], expected, rtol=1e-5)


def test_of_very_many_problems_the_first_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem(f"clip{n}", n, "no file") for n in range(cli.PROBLEMS_SHOWN + 1234)]
    assert cli._show_problems(problems) == cli.PARTIAL
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == cli.PROBLEMS_SHOWN + 2
    assert lines[-2:] == ["... and 1,234 more", f"{len(problems)} items left out"]


@pytest.fixture(scope="module")
def tagger_folder(tmp_path_factory):
    """A model of four tags with random weights, on clips of 0.3 s."""
    network = create_model(
        "lhgnn",
        num_classes=4,
        num_mel_bins=16,
        frames=30,
        channels=(8, 8),
        blocks=(1, 1),
        reduction=(2, 1),
        P=4,
        K=2,
        k=3,
    )
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.fill_(10.0)  # keeps the numbers of random weights small
    return save_bundle(
        tmp_path_factory.mktemp("tagger") / "model",
        network,
        FeaturePipeline(create_extractor("fbank", num_mel_bins=16), frames=30),
        create_graph("none"),
        Standardizer.constant(-8.0, 4.0, 16),
        ["dog", "rain, heavy", "siren", "speech"],
        kind="tagging",
    )


def test_predict_tags(tagger_folder, mixed_folder, tmp_path, capsys):
    words = ["predict", str(tagger_folder), str(mixed_folder), "--top", "2"]
    assert cli.main([*words, "--no-probabilities", "--output", str(tmp_path / "tags.csv")]) == cli.PARTIAL
    captured = capsys.readouterr()
    assert "4 items left out" in captured.err
    assert "hears only the first 0.3 s" in captured.err
    found = pd.read_csv(tmp_path / "tags.csv")
    assert list(found.columns) == ["file", "start", "end", "label", "confidence", "tags"]
    assert {Path(file).name for file in found["file"]} == {"good.wav", "studio.wav", "silent.wav"}
    assert (found["tags"].str.count("; ") == 1).all()
    assert cli.main([*words, "--format", "json", "--tag-threshold", "0.999"]) == cli.PARTIAL
    assert [row["tags"] for row in json.loads(capsys.readouterr().out)["results"]] == [[], [], []]
    assert cli.main([*words[:3], "--top", "0"]) == cli.FAILED
    assert "top: 0" in capsys.readouterr().err


def test_timeline_of_tags(tagger_folder, tones, tmp_path, capsys):
    sound = np.concatenate([soundfile.read(tones / label / "b_1.wav")[0] for label in ("low", "high", "low")])
    soundfile.write(tmp_path / "street.wav", sound, 16000)
    words = ["timeline", str(tagger_folder), str(tmp_path / "street.wav"), "--tag-threshold", "0"]
    target, plot = tmp_path / "street.txt", tmp_path / "street.png"
    words += ["--format", "audacity", "--output", str(target), "--plot", str(plot)]
    assert cli.main(words) == cli.OK
    lines = [line.split("\t") for line in target.read_text("utf-8").splitlines()]
    assert [label for _, _, label in lines] == ["dog", "rain, heavy", "siren", "speech"]
    assert {float(end) for _, end, _ in lines} == {round(len(sound) / 16000, 6)}
    assert plot.stat().st_size > 5000
    words = ["timeline", str(tagger_folder), str(tmp_path / "street.wav"), "--segments", "--tag-threshold", "0"]
    assert cli.main([*words, "--gap", "1", "--format", "csv"]) == cli.OK
    segments = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(segments.columns) == ["start", "end", "label", "confidence", "windows"]
    assert cli.main([*words, "--gap", "-1"]) == cli.FAILED


def test_explain_a_tag(tagger_folder, tones, tmp_path):
    picture, table = tmp_path / "why.png", tmp_path / "why.csv"
    words = ["explain", str(tagger_folder), str(tones / "high" / "a_0.wav"), "--target", "rain, heavy", "--steps", "2"]
    assert cli.main([*words, "--output", str(picture), "--csv", str(table)]) == cli.OK
    assert picture.stat().st_size > 10_000
    assert list(pd.read_csv(table).columns[:3]) == ["time", "score", "below 250 Hz"]


def test_export(tagger_folder, trained, tmp_path, capsys):
    for model, name, rest, text in (
        (trained[0], "a.onnx", [], "glnn: reads a graph"),
        (tagger_folder, "a.onnx", ["--opset", "11"], "opset: 11"),
        (tagger_folder, "a.pb", [], "*.onnx"),
        (tmp_path / "none", "a.onnx", [], "no such folder"),
    ):
        assert cli.main(["export", str(model), str(tmp_path / name), *rest]) == cli.FAILED
        message = capsys.readouterr().err
        assert text in message
        assert len(message.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("undecided", "lines"), [(0, 1), (3, 2), (8, 1)])
def test_export_says_on_what_its_check_rests(undecided, lines, tmp_path, monkeypatch, capsys):
    from graphophone.inference import export

    path = tmp_path / "a.onnx"
    path.write_bytes(b"network")
    made = export.Exported(path, path, {"verified": {"clips": 8}}, 2e-5, undecided, 0.041)
    monkeypatch.setattr(export, "export_onnx", lambda *_, **__: made)
    assert cli.main(["export", "run", str(path)]) == cli.OK
    shown = capsys.readouterr().out.splitlines()[2:]
    assert len(shown) == lines
    assert (f"by 2.0e-05 at most on {8 - undecided} of 8 clips" in shown[0]) == (undecided < 8)
    assert (f"on {undecided} of 8 clips the model hangs on rounding" in shown[-1]) == (undecided > 0)
    assert ("up to 4.1% of the largest" in shown[-1]) == (undecided > 0)


@pytest.mark.slow
def test_export_writes_a_file_that_runs(tagger_folder, tones, tmp_path, capfd):
    onnxruntime = pytest.importorskip("onnxruntime")
    target = tmp_path / "tagger.onnx"
    assert cli.main(["export", str(tagger_folder), str(target), "--input", "wave"]) == cli.OK
    captured = capfd.readouterr()
    assert "differ from the model's by" in captured.out
    assert captured.err == ""  # PyTorch's exporter has nothing to say to a user
    labels = json.loads((tmp_path / "tagger.json").read_text("utf-8"))["labels"]
    sound, _ = soundfile.read(tones / "low" / "a_0.wav", dtype="float32")
    _, probabilities = onnxruntime.InferenceSession(str(target)).run(None, {"wave": sound[None]})
    assert cli.main(["predict", str(tagger_folder), str(tones / "low" / "a_0.wav"), "--format", "json"]) == cli.OK
    told = json.loads(capfd.readouterr().out)["results"][0]["probabilities"]
    assert [told[label] for label in labels] == pytest.approx(probabilities[0].tolist(), abs=1e-3)
