import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
from safetensors.torch import load_file, save_file

from graphophone import audio, cli, runs
from graphophone.evaluation.noise_comparison import compare_drops
from graphophone.evaluation.results import ResultsError
from graphophone.features import FeaturePipeline
from graphophone.features.noises import White
from graphophone.features.noisy import Noisy
from graphophone.inference import Recognizer
from graphophone.noise_plan import RobustnessError
from graphophone.robustness import _answered, robustness
from graphophone.runs import load_corpus
from graphophone.talkers import corpus_talkers


@pytest.fixture(scope="module")
def factory(tmp_path_factory):
    path = tmp_path_factory.mktemp("noise") / "factory.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(3).standard_normal(20000), 16000)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The cache that the tests use is that of the fixtures, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHOPHONE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_tone_recipe, cache):
    recipe = make_tone_recipe()
    recipe["training"]["epochs"] = 8
    return runs.train(recipe, output=tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture(scope="module")
def tested(run, factory, cache):
    return robustness(run.folder, noise_files=[factory], snrs=[0, 20], workers=1, progress=False)


@pytest.fixture(autouse=True)
def no_report(tested, monkeypatch):
    """The first call has written it."""
    monkeypatch.setattr("graphophone.robustness.write_report", lambda folder: None)


def test_it_writes_a_row_per_noise_ratio_and_measure(run, tested):
    content = json.loads((run.folder / "robustness.json").read_text("utf-8"))
    assert content == tested.content
    assert 'id="noise"' in (run.folder / "report.html").read_text("utf-8")
    assert (run.folder / "figures" / "robustness.png").is_file()
    assert content["snrs"] == [20.0, 0.0]
    assert abs(content["headline"] - 10) == 10
    assert content["items"] == 32
    assert len(content["trainings"]) == 4
    assert [noise["name"] for noise in content["noises"]] == ["white", "pink", "babble", "factory"]
    assert content["notes"][1:] == ["The corpus has 4 speakers only, so the babble holds some voices more than once."]
    assert not content["left_out"]
    assert not content["skipped"]
    table = pd.read_csv(run.folder / "robustness.csv")
    assert len(table) == 4 * 2 * 2
    np.testing.assert_allclose(table["drop"], table["clean"] - table["noisy"], atol=1e-9)
    ua = table[table["measure"] == "ua"]
    np.testing.assert_allclose(ua["clean"], 100 * run.metrics["ua"]["mean"])
    assert set(ua["over"]) == {"folds"}
    assert set(ua["n"]) == {4}
    # Noise as loud as the tones costs something; noise a hundred times weaker less.
    at = ua.set_index(["noise", "snr"])["drop"]
    assert at["white", 0] > 10
    assert at["white", 20] < at["white", 0]


def test_answers_are_those_of_the_mixtures(run, tested, tones):
    """By another way: the waveform mixed by hand and given to the recognizer."""
    for path in sorted((run.folder / "folds").iterdir())[:2]:
        (file,) = path.glob("noise/white_0dB-*.csv")
        table = pd.read_csv(file)
        assert table["id"].tolist() == pd.read_csv(path / "predictions.csv")["id"].tolist()
        recognizer = Recognizer.from_pretrained(path / "model")
        noisy = Noisy(recognizer.bundle.pipeline.extractor, White(), 0)
        for row in table.head(3).to_dict("records"):
            mixed = noisy.mix(audio.load(tones / row["id"]).signal)
            answer = recognizer.process_signal(mixed, 16000).iloc[0]
            assert answer["p_low"] == pytest.approx(row["p_low"], abs=1e-5)
            assert answer["label"] == row["predicted"]


def test_a_spread_of_clean_answers_is_not_that_of_noisy_ones():
    class Deaf:
        labels = ("low", "high")
        bundle = SimpleNamespace(kind="classification")

        def probabilities(self, frames):
            return np.tile([0.3, 0.7], (len(frames), 1))

    told = pd.DataFrame({"id": ["a", "b"], "predicted": "low", "spread": 0.1, "p_low": 0.9, "p_high": 0.1})
    answers = _answered(Deaf(), told, {"a": None, "b": None})
    assert answers.columns.tolist() == ["id", "predicted", "p_low", "p_high"]
    assert answers["predicted"].tolist() == ["high", "high"]


def test_what_speaks_in_babble_is_another_speaker(run, tested, tones):
    """The answers to babble are those to a mixture with the other three speakers' tones."""
    corpus = load_corpus({"name": "folder", "root": str(tones), "speaker": r"([a-d])_\d"})
    speaker_of = dict(zip(corpus.table["id"], corpus.table["speaker"], strict=True))
    groups = {name: group.noise for group in corpus_talkers(corpus) for name in group.speakers}
    folder = next((run.folder / "folds").iterdir())
    (file,) = folder.glob("noise/babble_0dB-*.csv")
    row = pd.read_csv(file).iloc[0]
    noise = groups[speaker_of[row["id"]]]
    assert all(Path(recording.path).name[0] != row["speaker"] for recording in noise.recordings)
    recognizer = Recognizer.from_pretrained(folder / "model")
    mixed = Noisy(recognizer.bundle.pipeline.extractor, noise, 0).mix(audio.load(tones / row["id"]).signal)
    assert recognizer.process_signal(mixed, 16000)["p_low"][0] == pytest.approx(row["p_low"], abs=1e-5)


def test_the_same_call_again_computes_nothing(run, tested, factory, monkeypatch):
    monkeypatch.setattr(Recognizer, "probabilities", None)
    extracted = []
    plain = FeaturePipeline.extract

    def counted(self, *words, **options):
        extracted.append(plain(self, *words, **options))
        return extracted[-1]

    monkeypatch.setattr(FeaturePipeline, "extract", counted)
    again = robustness(run.folder, noise_files=[factory], snrs=[0, 20], progress=False)
    assert {**again.content, "made": ""} == {**tested.content, "made": ""}
    assert all(features.stats.cached == features.stats.items for features in extracted)


def test_an_interrupted_call_goes_on(run, tested, factory, tmp_path, monkeypatch):
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    kept = sorted(copy.glob("folds/*/noise/*.csv"))
    gone = kept[5:8]
    for path in gone:
        path.unlink()
    asked = []
    plain = Recognizer.probabilities
    monkeypatch.setattr(Recognizer, "probabilities", lambda self, frames: asked.append(frames) or plain(self, frames))
    again = robustness(copy, noise_files=[factory], snrs=[0, 20], progress=False)
    assert len(asked) == len(gone)
    assert again.content["rows"] == tested.content["rows"]
    assert sorted(copy.glob("folds/*/noise/*.csv")) == kept


def test_answers_of_another_model_are_not_taken_for_its_own(run, tested, tmp_path):
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    for path in copy.glob("folds/*/model/model.safetensors"):
        weights = {name: tensor if "running" in name else -tensor for name, tensor in load_file(path).items()}
        save_file(weights, path)
    again = robustness(copy, noises=["white"], snrs=[20], progress=False)
    assert again.content["rows"][0]["clean"] != tested.content["rows"][0]["clean"]
    assert again.content["notes"][-1].startswith("Of the clean answers")
    assert len(list(copy.glob("folds/*/noise/white_20dB-*.csv"))) == 4
    assert len(list(copy.glob("folds/*/noise/white_0dB-*.csv"))) == 4


def test_bad_recordings_are_named_and_left_out(run, tones, tmp_path, capsys):
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    moved = shutil.copytree(tones, tmp_path / "moved")
    soundfile.write(moved / "low" / "a_0.wav", np.zeros(8000), 16000)
    (moved / "high" / "b_1.wav").write_bytes((tones / "high" / "b_1.wav").read_bytes()[:1000])
    words = ["robustness", str(copy), "--root", str(moved), "--noise", "white", "--snr", "20", "--quiet"]
    assert cli.main(words) == cli.PARTIAL
    captured = capsys.readouterr()
    assert "low/a_0.wav" in captured.err
    assert "silent" in captured.err
    assert "high/b_1.wav" in captured.err
    assert "truncated" in captured.err
    content = json.loads((copy / "robustness.json").read_text("utf-8"))
    assert content["items"] == 30
    assert {entry["item"] for entry in content["left_out"]} == {"low/a_0.wav", "high/b_1.wav"}
    (moved / "high" / "b_1.wav").unlink()
    again = robustness(copy, root=moved, noises=["white"], snrs=[20], progress=False)
    assert again.content["rows"] == content["rows"]
    assert again.problems[0].item == "high/b_1.wav"
    assert again.problems[0].reason == "the corpus has no such item any more"
    for path in moved.glob("*/[a-d]_*.wav"):
        path.rename(path.with_name(f"{path.stem}_new.wav"))
    with pytest.raises(RobustnessError, match=r"no item 'high/a_0\.wav'.* 32 of 32.*--root"):
        robustness(copy, root=moved, noises=["white"], progress=False)


def test_runs_side_by_side(run, tested, tmp_path, capsys):
    other = shutil.copytree(run.folder, tmp_path / "other")
    described = json.loads((other / "run.json").read_text("utf-8"))
    (other / "run.json").write_text(json.dumps({**described, "name": "other"}), "utf-8")
    page = tmp_path / "both" / "noise.csv"
    words = ["robustness", str(run.folder), str(other), "--noise", "white", "pink", "--snr", "20", "10", "--quiet"]
    assert cli.main([*words, "--output", str(page)]) == cli.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "drop of unweighted accuracy in points, at 10 dB"
    assert lines[1].split() == ["run", "clean", "%", "white", "pink"]
    assert lines[2].split()[0] == "tones"
    assert lines[3].split()[1:] == lines[2].split()[1:]  # the same models on the same mixtures
    table = pd.read_csv(page)
    assert table.columns[0] == "run"
    assert set(table["run"]) == {"tones", "other"}
    assert len(table) == 2 * 2 * 2 * 2
    assert page.with_suffix(".png").is_file()
    assert cli.main(["robustness", str(other), "--noise", "white", "--snr", "10", "--quiet"]) == cli.OK
    said = capsys.readouterr().out
    assert "Drop of unweighted accuracy in points" in said
    assert "Noise was added to the waveforms of 32 test recordings" in said


def test_what_cannot_be_done_is_one_line(run, factory, tmp_path, capsys):
    for words, expected in (
        ([str(tmp_path)], "is not a run folder"),
        ([str(run.folder), "--root", str(tmp_path / "nowhere")], "--root"),
        ([str(run.folder), "--noise"], "name a noise"),
        ([str(run.folder), "--snr", "nan"], "numbers in dB"),
        ([str(run.folder), "--noise-file", str(factory), str(factory)], "a noise 'factory' already"),
        ([str(run.folder), "--noise-file", str(tmp_path / "gone.wav")], "no such file"),
        ([str(run.folder), "--talkers", str(tmp_path)], "no audio file"),
    ):
        assert cli.main(["robustness", *words, "--quiet"]) == cli.FAILED
        message = capsys.readouterr().err.strip()
        assert len(message.splitlines()) == 1
        assert expected in message
    with pytest.raises(RobustnessError, match="no noise 'wind'"):
        robustness(run.folder, noises=["wind"], progress=False)
    unfinished = shutil.copytree(run.folder, tmp_path / "unfinished", ignore=shutil.ignore_patterns("metrics.json"))
    with pytest.raises(RobustnessError, match="no training has finished"):
        robustness(unfinished, progress=False)
    untested = shutil.copytree(run.folder, tmp_path / "untested", ignore=shutil.ignore_patterns("robustness.json"))
    with pytest.raises(ResultsError, match="not tested with noise"):
        compare_drops([untested])
