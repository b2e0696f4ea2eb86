from __future__ import annotations

import json
import pickle
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import RepositoryNotFoundError

from graphophone.errors import GraphophoneError
from graphophone.graphs import create_graph
from graphophone.inference import Bundle, ModelFolderError, Recognizer, load_bundle, save_bundle, update_bundle
from graphophone.inference.bundle import BUNDLE_FILES, REFERENCES, Kind, replace_folder
from graphophone.models import create_model

LABELS = ("neutral", "happy", "angry")
RATE = 16000
Voice = Callable[..., np.ndarray]
Parts = Callable[..., dict]


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    """A model folder to damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def edit(folder: Path, name: str, **changes: Any) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **changes}))


def one_line(error: pytest.ExceptionInfo[GraphophoneError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_what_is_read_is_what_was_saved(tmp_path: Path, voice: Voice, parts: Parts):
    given = parts(metadata=("spontaneous",))
    loaded = load_bundle(save_bundle(tmp_path / "model", **given))
    assert loaded.labels == LABELS
    assert loaded.graph.config == given["graph"].config
    assert loaded.pipeline.to_dict() == given["pipeline"].to_dict()
    frames = given["pipeline"](voice(1.3), RATE, {"spontaneous": 1})
    np.testing.assert_array_equal(loaded.standardizer(frames), given["standardizer"](frames))
    for name, tensor in given["model"].state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], tensor, rtol=0, atol=0)
    assert not loaded.model.training


def test_the_folder_holds_these_files_and_others_may_read_them(model_folder: Path):
    assert {path.name for path in model_folder.iterdir()} == set(BUNDLE_FILES)
    for path in (model_folder, *model_folder.iterdir()):
        assert path.stat().st_mode & stat.S_IROTH


def test_a_run_folder_stands_for_its_model(copy: Path, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    copy.rename(run / "model")
    assert load_bundle(run).folder == run / "model"
    assert load_bundle(str(run)).labels == LABELS


def test_a_run_without_a_model_says_so(tmp_path: Path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ModelFolderError, match="no finished model") as error:
        load_bundle(tmp_path)
    one_line(error)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "pipeline.json", "standardizer.safetensors"])
def test_a_missing_file_is_named(copy: Path, name: str):
    (copy / name).unlink()
    with pytest.raises(GraphophoneError, match=name.replace(".", r"\.")) as error:
        load_bundle(copy)
    one_line(error)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "pipeline.json", "standardizer.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_file_is_named(copy: Path, name: str, damage: str):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes({"cut": content[: len(content) // 2], "noise": b"\x93\x00 no" * 9, "empty": b""}[damage])
    with pytest.raises(GraphophoneError, match=name.replace(".", r"\.")) as error:
        load_bundle(copy)
    one_line(error)


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl"])
def test_pickles_are_refused_and_not_opened(copy: Path, tmp_path: Path, suffix: str):
    trap, sprung = copy / f"pytorch_model{suffix}", tmp_path / "sprung"
    trap.write_bytes(pickle.dumps(Payload(sprung)))
    load_bundle(copy)  # one that lies beside the weights is not touched
    (copy / "model.safetensors").unlink()
    for source in (trap, copy):
        with pytest.raises(ModelFolderError, match="never loaded") as error:
            load_bundle(source)
        assert trap.name in one_line(error)
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["a", "b"]}, "2 labels.*3 classes"),
        ({"labels": ["a", "b", "b"]}, "not unique"),
        ({"labels": []}, "empty"),
        ({"format": 4}, "newer.*upgrade"),
        ({"format": None}, "no format number"),
        ({"graph": {"name": "moebius"}}, "moebius"),
        ({"graph": {"name": "cycle_topk", "kk": 3}}, "kk"),
        ({"features": {"extractor": {"name": "fbank", "config": {"num_mel_bins": 20}}}}, "20 columns.*12"),
        ({"features": {"extractor": {"name": "nose"}}}, "nose"),
        ({"features": 3}, "not understood"),
        ({"features": {"extractor": {"name": 5}}}, "not understood"),
        ({"labels": 5}, "'labels' is 5 and not a list"),
        ({"labels": "abc"}, "not a list of names"),
        ({"labels": ["a", 1, None]}, "not a list of names"),
        ({"graph": ["cycle"]}, "'graph'.*not an object"),
        ({"graph": {"name": "cycle_topk", "k": "three"}}, "not understood"),
        ({"model": 1}, "not a name"),
        ({"metrics": [1]}, "'metrics'"),
        ({"corpus": "tones"}, "'corpus'"),
        ({"protocol": 1}, "'protocol'"),
        ({"format": True}, "no format number"),
    ],
)
def test_parts_that_do_not_fit_are_named(copy: Path, changes: dict, words: str):
    edit(copy, "pipeline.json", **changes)
    with pytest.raises(ModelFolderError, match=words) as error:
        load_bundle(copy)
    assert str(copy / "pipeline.json") in one_line(error)


def test_a_tagging_model_of_clips(tagger_folder: Path, tagger_bundle: Bundle, clip_parts: Parts):
    assert json.loads((tagger_folder / "pipeline.json").read_text())["kind"] == "tagging"
    assert tagger_bundle.kind == "tagging"
    assert tagger_bundle.reads_spectrogram
    assert tagger_bundle.clip_seconds == pytest.approx(0.6)
    assert tagger_bundle.graph.config == {"name": "none"}
    assert {path.name for path in tagger_folder.iterdir()} == set(BUNDLE_FILES)
    logits = torch.tensor([[0.0, np.log(3), -np.log(3), 50.0]]).float()
    torch.testing.assert_close(tagger_bundle.probabilities(logits), torch.tensor([[0.5, 0.75, 0.25, 1.0]]))
    alone = Bundle(**{**vars(tagger_bundle), "kind": "classification"}).probabilities(logits)
    assert float(alone.sum()) == pytest.approx(1)


def test_a_folder_of_the_first_format_is_read(copy: Path, bundle: Bundle):
    content = json.loads((copy / "pipeline.json").read_text())
    del content["kind"], content["features"]["frames"], content["features"]["pad_value"]
    (copy / "pipeline.json").write_text(json.dumps({**content, "format": 1}))
    loaded = load_bundle(copy)
    assert (loaded.kind, loaded.clip_seconds, loaded.reads_spectrogram) == ("classification", None, False)
    assert loaded.pipeline.to_dict() == bundle.pipeline.to_dict()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "oracle"}, "unknown kind 'oracle'.*classification, tagging"),
        ({"kind": ["tagging"]}, "unknown kind"),
        ({"graph": {"name": "cycle_topk", "k": 3}}, "builds its graph itself, but the graph is 'cycle_topk'"),
        ({"features": {"extractor": {"name": "fbank", "config": {"num_mel_bins": 16}}}}, "no number of frames"),
        (
            {"features": {"extractor": {"name": "fbank", "config": {"num_mel_bins": 20}}, "frames": 60}},
            "20 columns.*expects 16",
        ),
    ],
)
def test_parts_that_do_not_fit_a_model_of_clips(tagger_folder: Path, tmp_path: Path, changes: dict, words: str):
    folder = Path(shutil.copytree(tagger_folder, tmp_path / "tagger"))
    edit(folder, "pipeline.json", **changes)
    with pytest.raises(ModelFolderError, match=words) as error:
        load_bundle(folder)
    assert str(folder / "pipeline.json") in one_line(error)


def test_a_graph_network_without_a_graph_is_refused(tmp_path: Path, parts: Parts):
    with pytest.raises(ModelFolderError, match="needs the edges of a graph"):
        save_bundle(tmp_path / "model", **{**parts(), "graph": create_graph("none")})


def test_weights_of_another_network_are_refused(copy: Path):
    edit(copy, "config.json", widths=[16, 14])
    with pytest.raises(GraphophoneError, match=r"model\.safetensors") as error:
        load_bundle(copy)
    one_line(error)


def test_a_standardizer_of_other_features_is_refused(copy: Path, tmp_path: Path, parts: Parts):
    other = save_bundle(tmp_path / "other", **parts(metadata=("spontaneous",)))
    shutil.copy(other / "standardizer.safetensors", copy)
    with pytest.raises(ModelFolderError, match=r"standardizer\.safetensors: 13 columns.*12"):
        load_bundle(copy)


def test_saving_parts_that_do_not_fit_leaves_nothing(tmp_path: Path, parts: Parts):
    wrong = {**parts(), "model": create_model("glnn", in_channels=11, num_classes=3)}
    with pytest.raises(ModelFolderError, match=r"12 columns.*11"):
        save_bundle(tmp_path / "model", **wrong)
    with pytest.raises(ModelFolderError, match="2 labels"):
        save_bundle(tmp_path / "model", **{**parts(), "labels": ("a", "b")})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_former_folder(copy: Path, monkeypatch: pytest.MonkeyPatch, parts: Parts):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    given = parts(seed=1)
    monkeypatch.setattr(type(given["standardizer"]), "state_dict", lambda self: {}["disk full"])
    with pytest.raises(KeyError):
        save_bundle(copy, **given)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_saving_again_replaces_a_model_and_nothing_else(copy: Path, tmp_path: Path, parts: Parts):
    before = (copy / "model.safetensors").read_bytes()
    save_bundle(copy, **parts(seed=1))
    assert (copy / "model.safetensors").read_bytes() != before
    assert load_bundle(copy).labels == LABELS
    (copy / "thesis.tex").write_text("the only copy")
    with pytest.raises(ModelFolderError, match="not a model folder"):
        save_bundle(copy, **parts())
    assert (copy / "thesis.tex").read_text() == "the only copy"
    assert [path.name for path in tmp_path.iterdir()] == [copy.name]


def test_a_folder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for source in ("runs/glnn", "nowhere", tmp_path / "nowhere", "./a/b", "runs"):
        with pytest.raises(ModelFolderError) as error:
            Recognizer.from_pretrained(source)
        one_line(error)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ModelFolderError, match="is a file"):
        load_bundle("notes.txt")


def test_the_hub_gives_only_the_files_of_a_model(model_folder: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def snapshot_download(repository: str, **options: Any) -> str:
        asked.append((repository, options))
        return str(model_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert load_bundle("someone/emotion-model@v2").labels == LABELS
    ((repository, options),) = asked
    assert repository == "someone/emotion-model"
    assert options["revision"] == "v2"
    assert set(options["allow_patterns"]) == {*BUNDLE_FILES, REFERENCES}


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def snapshot_download(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route to host\nmore\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(ModelFolderError, match=r"someone/model.*no route to host") as error:
        load_bundle("someone/model")
    one_line(error)
    assert issubclass(RepositoryNotFoundError, OSError)  # which is why the hub's own errors are caught as well


def test_the_card(tmp_path: Path, parts: Parts):
    folder = save_bundle(
        tmp_path / "model",
        **parts(),
        corpus={"name": "tones", "items": 1234, "speakers": ["a", "b"], "hours": 1.5, "citation": "Anon, 2020."},
        protocol={"name": "stratified", "description": "A random eighth part was held out.", "mixes_speakers": True},
        metrics={"test": {"ua": {"mean": 0.5, "sd": 0.1, "low": 0.4, "high": 0.6, "n": 5}, "wa": np.float64(0.625)}},
    )
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "graphophone"
    assert card.data.license == "other"
    assert {result.metric_type: result.metric_value for result in card.data.eval_results} == {"ua": 0.5, "wa": 0.625}
    for words in (
        "neutral, happy and angry",
        "1,234 recordings, 1.5 hours, 2 speakers",
        "50.0 % | 40.0 to 60.0 (n = 5)",
        "62.5 % | not known",
        "Speakers of the test part were also heard in training",
        "Anon, 2020.",
        "## Intended use",
        "## Limits",
    ):
        assert words in card.text
    assert load_bundle(folder).metrics["test"]["wa"] == 0.625


@pytest.mark.parametrize("kind", ["tagging", "classification"])
def test_the_card_of_a_model_of_clips(tmp_path: Path, clip_parts: Parts, kind: Kind):
    metrics = (
        {"map": {"mean": 0.4567, "low": 0.4, "high": 0.5, "n": 3}, "dprime": 2.5} if kind == "tagging" else {"wa": 0.9}
    )
    card = ModelCard.load(save_bundle(tmp_path / "model", **clip_parts(kind=kind), metrics=metrics) / "README.md")
    text = card.text
    assert "spectrograms of 60 frames (0.6 s) of `fbank` features (16 columns)" in text
    assert "hears the first 0.6 s" in text
    assert "emotion" not in text
    assert "speech-emotion-recognition" not in card.data.tags
    if kind == "tagging":
        assert "each of 4 tags (dog, rain, heavy, siren and speech)" in text
        assert "0.457 | 0.400 to 0.500 (n = 3)" in text
        assert "2.500" in text
        assert "audio-tagging" in card.data.tags
        assert "always chooses one" not in text
    else:
        assert "90.0 %" in text
        assert "always chooses one" in text


def test_a_card_of_your_own(tmp_path: Path, parts: Parts):
    save_bundle(tmp_path / "model", **parts(), card="# Mine\n")
    assert (tmp_path / "model" / "README.md").read_text() == "# Mine\n"
    save_bundle(tmp_path / "model", **parts(), card={"title": "Calls", "license": "mit", "limits": ["Only Danish."]})
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.license == "mit"
    assert "# Calls" in card.text
    assert "- Only Danish." in card.text


def test_results_are_written_into_a_model_that_is_there(tmp_path: Path, parts: Parts):
    given = parts(metadata=("spontaneous",))
    folder = save_bundle(
        tmp_path / "model",
        **given,
        corpus={"name": "tones", "languages": ["en", "da"]},
        metrics={"ua": 0.9},
        card={"license": "mit"},
    )
    weights = (folder / "model.safetensors").stat()
    sentence = "Weights: fold fold2, seed 0, trained on 960 items of 16 speakers, chosen by validation UA."
    interval = {"mean": 0.5, "sd": 0.1, "low": 0.4, "high": 0.6, "n": 5}
    update_bundle(folder, metrics={"ua": interval, "wa": np.float64(0.4)}, card={"weights": sentence})
    after = (folder / "model.safetensors").stat()
    assert (after.st_mtime_ns, after.st_ino) == (weights.st_mtime_ns, weights.st_ino)
    assert load_bundle(folder).metrics == {"ua": interval, "wa": 0.4}
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "mit"  # given when it was saved
    for words in (
        "50.0 % | 40.0 to 60.0 (n = 5)",
        sentence,
        "not of these weights alone",
        "languages: en, da",
        "On the command line each is taken as 0",
        'metadata={"spontaneous": 1}',
    ):
        assert words in card.text
    assert "90.0 %" not in card.text
    update_bundle(folder, metrics={"ua": 0.3})
    assert sentence in (folder / "README.md").read_text()
    assert {path.name for path in folder.iterdir()} == set(BUNDLE_FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_update_leaves_a_card_of_your_own(tmp_path: Path, parts: Parts):
    folder = save_bundle(tmp_path / "run" / "model", **parts(), card="# Mine\n")
    update_bundle(tmp_path / "run", metrics={"ua": 0.3}, card={"weights": "Weights: fold a."})
    assert (folder / "README.md").read_text() == "# Mine\n"
    assert load_bundle(folder).metrics == {"ua": 0.3}
    with pytest.raises(ModelFolderError, match="no such folder"):
        update_bundle("someone/model", metrics={})


def test_the_card_of_whole_results_says_nothing_of_weights(model_folder: Path):
    text = (model_folder / "README.md").read_text()
    assert "weights alone" not in text
    assert "command line each" not in text


def test_replacing_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def make(name: str) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
        return tmp_path / name

    target = tmp_path / "target"
    replace_folder(make("a"), target)
    replace_folder(str(make("b")), str(target))
    assert (target / "content").read_text() == "b"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    new, rename = make("c"), Path.rename

    def interrupted(self: Path, other: Path) -> Path:
        if self == new:
            raise KeyboardInterrupt
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(new, target)
    assert (target / "content").read_text() == "b"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "target"]


def test_a_device_that_is_not_there_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    devices = ["foo", "cuda:99", "meta", *([] if torch.cuda.is_available() else ["cuda"])]
    for device in devices:
        for source in (copy, "someone/model"):
            with pytest.raises(GraphophoneError, match=rf"device '{device}': .*use cpu") as error:
                Recognizer.from_pretrained(source, device=device)
            one_line(error)
        with pytest.raises(GraphophoneError, match=device):
            Recognizer(load_bundle(copy), device=device)
