"""Answers of models of text and sound: by what there is, and what carried them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from graphophone import cli
from graphophone.audio import AudioError
from graphophone.errors import GraphophoneError
from graphophone.features import FeaturePipeline, create_extractor
from graphophone.inference import (
    Bundle,
    ModelFolderError,
    Recognizer,
    UtteranceExplanation,
    explain,
    export_onnx,
    load_bundle,
    save_bundle,
    timeline,
)
from graphophone.inference.references import pack
from graphophone.inference.utterance_explanations import Asked
from graphophone.models import create_model
from graphophone.nn.cross_attention import Sequences
from graphophone.runs import Run

pytestmark = pytest.mark.usefixtures("vowels")
P = ["p_high", "p_low", "p_middle"]
Write = Callable[..., Path]
Voice = Callable[..., np.ndarray]


@pytest.fixture
def folder(spoken_run: Run, tmp_path: Path) -> Path:
    """A model folder with nothing of its run around it."""
    return Path(shutil.copytree(spoken_run.model, tmp_path / "copy"))


@pytest.fixture
def recognizer(folder: Path) -> Recognizer:
    return Recognizer.from_pretrained(folder, workers=1)


def only_both(bundle: Bundle) -> Bundle:
    """The same model without its networks of one modality."""
    whole: Any = bundle.model
    model = create_model("hemogat", **{**whole.config, "alone": False})
    weights = {name: part for name, part in whole.state_dict().items() if not name.startswith("alone.")}
    model.load_state_dict(weights)
    return replace(bundle, model=model.eval())


@pytest.fixture
def needs_both(folder: Path) -> Recognizer:
    return Recognizer(only_both(load_bundle(folder)), workers=1)


def test_text_and_sound_or_one_of_them(recognizer: Recognizer, spoken: Path) -> None:
    path = spoken.parent / "0.wav"
    both, sound, text = (
        recognizer.process_file(path, text="eeaaie"),
        recognizer.process_file(path),
        recognizer.process_text("eeaaie"),
    )
    for table, used in ((both, "text and audio"), (sound, "audio"), (text, "text")):
        assert list(table.columns) == ["file", "start", "end", "text", "used", "label", "confidence", *P]
        assert table["used"].tolist() == [used]
        assert table[P].to_numpy().sum() == pytest.approx(1, abs=1e-5)
    assert not np.allclose(both[P], sound[P], atol=1e-3)
    assert not np.allclose(both[P], text[P], atol=1e-3)
    assert pd.isna(text.loc[0, "file"])
    assert text[["start", "end"]].isna().all(axis=None)
    # Blanks are no text; a text is read whoever gives the sound.
    np.testing.assert_array_equal(recognizer.process_file(path, text="  ")[P], sound[P])
    import soundfile

    signal, rate = soundfile.read(path, dtype="float32")
    np.testing.assert_allclose(recognizer.process_signal(signal, rate, text="eeaaie")[P], both[P], atol=1e-6)
    with pytest.raises(GraphophoneError, match="neither text nor audio"):
        recognizer.process_text(" ")
    with pytest.raises(AudioError, match="there is no such file"):
        recognizer.process_file(spoken.parent / "gone.wav", text="aaa")


def test_a_table_with_gaps(recognizer: Recognizer, spoken: Path) -> None:
    sound, gone = str(spoken.parent / "0.wav"), str(spoken.parent / "gone.wav")
    table = pd.DataFrame(
        {"file": [sound, None, sound, None, gone, gone], "text": ["aei", "aei", None, "", "aei", float("nan")]},
        index=list("abcdef"),
    )
    found = recognizer.process_table(table)
    assert found["used"].to_dict() == {"a": "text and audio", "b": "text", "c": "audio", "e": "text"}
    failures = {(problem.row, problem.item): problem.reason for problem in found.attrs["failures"]}
    assert failures == {
        (3, "nothing"): "modalities: there is neither text nor audio; give at least one of them",
        (5, gone): "there is no such file; check the path",
    }
    (warning,) = found.attrs["warnings"]
    assert (warning.row, warning.item) == (4, gone)
    assert warning.reason == "audio is left out: there is no such file; check the path"
    np.testing.assert_allclose(found.loc["e", P].astype(float), found.loc["b", P].astype(float))
    np.testing.assert_allclose(found.loc[["a"], P], recognizer.process_file(sound, text="aei")[P], atol=1e-6)
    # Only texts: no column of files is needed.
    assert len(recognizer.process_table(pd.DataFrame({"text": ["aaa", "eee"]}))) == 2


def test_what_nobody_answers_for_is_named_and_the_rest_answered(needs_both: Recognizer, spoken: Path) -> None:
    sound = str(spoken.parent / "0.wav")
    found = needs_both.process_table(
        pd.DataFrame({"file": [sound, None, sound, "gone.wav"], "text": ["aei", "aei", None, "aei"]})
    )
    assert found.index.tolist() == [0]
    reasons = [problem.reason for problem in found.attrs["failures"]]
    assert [problem.row for problem in found.attrs["failures"]] == [1, 2, 3]
    assert all(reason.endswith("give it, or train with model.alone true") for reason in reasons)
    assert reasons[0].startswith("it has no audio, and")
    assert reasons[1].startswith("it has no text, and")
    assert "it has no audio (audio is left out: there is no such file; check the path), and" in reasons[2]
    with pytest.raises(GraphophoneError, match=r"it has no text, and the model holds no network that does without"):
        needs_both.process_file(sound)


def test_an_answer_depends_on_no_other(recognizer: Recognizer, spoken: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.read_csv(spoken, dtype=str).iloc[:40]
    table["audio"] = [str(spoken.parent / name) if isinstance(name, str) else None for name in table["audio"]]
    together = recognizer.process_table(table)
    for part in np.array_split(rng.permutation(40), 9):
        apart = recognizer.process_table(table.iloc[part])
        np.testing.assert_allclose(apart[P], together.loc[apart.index, P], atol=1e-6)


def test_a_long_recording(recognizer: Recognizer, needs_both: Recognizer, write: Write, voice: Voice) -> None:
    path = write("long.wav", voice(1.2))
    windows = timeline(recognizer, path, window=0.4, hop=0.4)
    assert len(windows) == 3
    whole = recognizer.process_file(path, 0.4, 0.8)
    np.testing.assert_allclose(windows.loc[[1], P], whole[P], atol=1e-6)
    with pytest.raises(GraphophoneError, match=r"timeline: hemogat needs what is said.*model\.alone true"):
        timeline(needs_both, path, window=0.4, hop=0.4)


def test_export_is_refused_in_a_line(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(GraphophoneError, match=r"hemogat: cannot be exported: it searches \d+ known utterances"):
        export_onnx(folder, tmp_path / "model.onnx")
    assert not list(tmp_path.glob("*.onnx"))


def test_vectors_that_came_with_a_corpus_cannot_be_made_anew() -> None:
    pipeline = FeaturePipeline(
        create_extractor("modalities", text={"name": "given", "dims": 3}, audio={"name": "given", "dims": 4})
    )
    with pytest.raises(GraphophoneError, match="vectors of text and audio came with the corpus"):
        pipeline(np.zeros(1600, dtype=np.float32), 16000, text="aei")


def test_the_card_says_how_to_ask(folder: Path) -> None:
    card = (folder / "README.md").read_text("utf-8")
    assert 'process_file("one.wav", text="Where have you been?")' in card
    assert 'predict path/to/this/folder one.wav --text "Where have you been?"' in card
    assert "features of text (`vowels`, 3 columns) and audio (`logmel128`, 128 columns)" in card
    assert "answered for by a network of the other alone" in card


class TestDamage:
    """A folder that something has happened to says so in a line."""

    def refused(self, folder: Path, match: str) -> None:
        with pytest.raises(GraphophoneError, match=match) as caught:
            Recognizer.from_pretrained(folder)
        assert "\n" not in str(caught.value)
        assert cli.main(["predict", str(folder), "--text", "aei"]) == cli.FAILED

    def change(self, folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
        path = folder / "pipeline.json"
        described = json.loads(path.read_text("utf-8"))
        edit(described)
        path.write_text(json.dumps(described), "utf-8")

    def test_no_bank(self, folder: Path) -> None:
        (folder / "references.safetensors").unlink()
        self.refused(folder, r"references\.safetensors: missing; copy the whole model folder again")

    def test_cut_short(self, folder: Path) -> None:
        path = folder / "references.safetensors"
        path.write_bytes(path.read_bytes()[:100])
        self.refused(folder, r"references\.safetensors: damaged")

    def test_another_width(self, folder: Path) -> None:
        path = folder / "references.safetensors"
        tensors = load_file(path)
        save_file({**tensors, "x": tensors["x"][:, 1:].contiguous()}, path)
        self.refused(folder, r"references\.safetensors: graph 0 has \d+ columns, but the features have \d+")

    def test_infinite(self, folder: Path) -> None:
        path = folder / "references.safetensors"
        tensors = load_file(path)
        tensors["x"][0, 0] = torch.inf
        save_file(tensors, path)
        self.refused(folder, "features that are not finite")

    def test_another_way_to_attach(self, folder: Path) -> None:
        self.change(folder, lambda described: described["attachment"].update(how="nearest"))
        self.refused(folder, r"attachment how is 'nearest', which the network 'hemogat' does not answer by")

    def test_two_banks(self, folder: Path) -> None:
        bundle = load_bundle(folder)
        path = folder / "references.safetensors"
        tensors, texts = pack([bundle.references[0]] * 2)
        save_file(tensors, path, texts)
        self.refused(folder, r"references\.safetensors: holds 2 graphs")

    def test_another_graph(self, folder: Path) -> None:
        self.change(folder, lambda described: described["graph"].update({"name": "signed", "config": {}}))
        self.refused(folder, r"pipeline\.json: .*(finds neighbours by modality|not understood)")

    def test_widths_that_do_not_add_up(self, folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text("utf-8"))
        config["in_channels"]["text"] += 1
        path.write_text(json.dumps(config), "utf-8")
        self.refused(folder, "safetensors|columns")

    def test_widths_that_add_up_and_are_others(self, folder: Path) -> None:
        """Columns of text would be read as sound."""

        other = load_bundle(folder)
        widths = {"text": 4, "audio": other.pipeline.dims - 4}
        model = create_model("hemogat", **{**other.model.config, "in_channels": widths})  # type: ignore[attr-defined]
        with pytest.raises(
            ModelFolderError, match=r"columns text 3, audio 128, but config\.json expects text 4, audio 127"
        ):
            save_bundle(
                folder.parent / "other",
                model,
                other.pipeline,
                other.graph,
                other.standardizer,
                other.labels,
                references=other.references,
                attachment=other.attachment,
            )


class TestCommand:
    def test_json_and_csv(self, folder: Path, spoken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.copy(spoken.parent / "0.wav", tmp_path / "a.wav")
        table = tmp_path / "asked.csv"
        table.write_text('id,file,text\none,a.wav,"aa, ei"\ntwo,,eee\nthree,a.wav,\nfour,gone.wav,\n', "utf-8")
        assert cli.main(["predict", str(folder), "--table", str(table), "--format", "csv"]) == cli.PARTIAL
        printed = capsys.readouterr()
        rows = list(csv.DictReader(io.StringIO(printed.out)))
        assert [(row["id"], row["text"], row["used"]) for row in rows] == [
            ("one", "aa, ei", "text and audio"),
            ("two", "eee", "text"),
            ("three", "", "audio"),
        ]
        assert "(row 5): there is no such file" in printed.err  # the line of the file
        output = tmp_path / "answers.json"
        assert cli.main(["predict", str(folder), "--table", str(table), "--output", str(output)]) == cli.PARTIAL
        document = json.loads(output.read_text("utf-8"))
        assert [result["id"] for result in document["results"]] == ["one", "two", "three"]
        assert document["results"][1]["file"] is document["results"][1]["start"] is None
        assert [problem["row"] for problem in document["failures"]] == [5]
        for row, result in zip(rows, document["results"], strict=True):
            assert float(row["p_low"]) == pytest.approx(result["probabilities"]["low"], abs=1e-5)

    def test_one_file_with_its_text(self, folder: Path, spoken: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["predict", str(folder), str(spoken.parent / "0.wav"), "--text", "[aei]", "--format", "csv"]
        assert cli.main(words) == cli.OK
        (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
        assert row["used"] == "text and audio"
        expected = Recognizer.from_pretrained(folder).process_file(spoken.parent / "0.wav", text="[aei]")
        assert float(row["confidence"]) == pytest.approx(expected["confidence"][0], abs=1e-5)
        assert cli.main(words[:-2]) == cli.OK
        assert "[aei]" in capsys.readouterr().out  # no markup

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ([], "nothing to answer for: give files, --text or --table"),
            (["{folder}", "--text", "a"], "--text is what is said in one file"),
            (["a.wav", "b.wav", "--text", "a"], "--text is what is said in one file"),
            (["a.wav", "--table", "t.csv"], "leave out the files and --text"),
            (["gone.wav", "--text", "a"], "gone.wav: there is no such file"),
            (["--text", " "], "neither text nor audio"),
        ],
    )
    def test_words_that_do_not_go_together(
        self, folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
    ) -> None:
        assert cli.main(["predict", str(folder), *(word.format(folder=folder) for word in words)]) == cli.FAILED
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line

    def test_explain(self, folder: Path, spoken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        sound, picture, table = str(spoken.parent / "0.wav"), tmp_path / "why.png", tmp_path / "why.csv"
        words = ["explain", str(folder), sound, "--text", "aei", "--output", str(picture), "--csv", str(table)]
        assert cli.main(words) == cli.OK
        printed = capsys.readouterr().out
        assert all(name in printed for name in ("text", "audio", "known utterance", "near by", "log-odds"))
        assert picture.stat().st_size > 10_000
        assert pd.read_csv(table).columns.tolist() == ["column", "group", "score"]
        assert cli.main(["explain", str(folder), "--text", "aei", "--output", str(picture)]) == cli.OK
        assert cli.main(["explain", str(folder)]) == cli.FAILED
        assert "give a recording, a text, or both" in capsys.readouterr().err


class TestExplain:
    @pytest.fixture
    def both(self, recognizer: Recognizer, spoken: Path) -> UtteranceExplanation:
        found = explain(recognizer, spoken.parent / "0.wav", text="aaaaeeia", steps=64)
        assert isinstance(found, UtteranceExplanation)
        return found

    def test_it_adds_up(self, both: UtteranceExplanation) -> None:
        total = both.feature_scores.sum() + both.references["score"].sum()
        assert both.evidence - both.baseline == pytest.approx(total + both.gap, abs=1e-5)
        assert abs(both.gap) < 0.1 * abs(both.evidence - both.baseline)
        assert both.modalities["modality"].tolist() == ["text", "audio"]
        assert both.modalities["score"].sum() == pytest.approx(both.feature_scores.sum())
        assert sum(both.groups.values()) == pytest.approx(both.feature_scores.sum())
        assert both.to_frame()["group"].iloc[0] == "text"
        assert both.to_frame()["group"].iloc[3:].str.startswith("audio: ").all()
        json.dumps(both.to_dict(), allow_nan=False)

    def test_the_known_ones_are_those_that_it_is_near(
        self, both: UtteranceExplanation, recognizer: Recognizer, spoken: Path
    ) -> None:
        truth = pd.read_csv(spoken, dtype=str).set_index("id")["label"]
        known = both.references
        assert known["label"].tolist() == truth.loc[known["recording"]].tolist()
        assert (known["label_is"] == "true").all()
        near = known["near_by"].value_counts().to_dict()
        shared = near.get("text and audio", 0)
        assert near.get("text", 0) + shared == 2
        assert near.get("audio", 0) + shared == 3
        assert set(known["recording"]) <= set(recognizer.bundle.references[0].id)
        assert known["score"].abs().is_monotonic_decreasing

    def test_networks_of_one_modality_speak_beside(
        self, both: UtteranceExplanation, recognizer: Recognizer, spoken: Path
    ) -> None:
        alone = both.modalities.set_index("modality")["alone"]
        for name, table in (
            ("text", recognizer.process_text("aaaaeeia")),
            ("audio", recognizer.process_file(spoken.parent / "0.wav")),
        ):
            assert alone[name] == pytest.approx(table[f"p_{both.label}"][0], abs=1e-5)

    def test_what_is_not_there_contributes_nothing(self, recognizer: Recognizer, spoken: Path) -> None:
        text: Any = explain(recognizer, None, text="aaaaeeia", steps=16)
        assert text.feature_scores[0, :3].any()
        assert not text.feature_scores[0, 3:].any()
        assert text.modalities["modality"].tolist() == ["text"]
        assert (text.used, text.file, len(text.signal)) == ("text", None, 0)
        assert text.probability == pytest.approx(recognizer.process_text("aaaaeeia")["confidence"][0], abs=1e-6)
        sound: Any = explain(recognizer, spoken.parent / "0.wav", target="high", steps=16)
        assert not sound.feature_scores[0, :3].any()
        assert sound.label == "high"
        assert sound.references["near_by"].tolist() == ["audio"] * 3
        sound.plot()

    @pytest.mark.parametrize("options", [{}, {"graph": "typed"}, {"gnn": "gcn"}, {"hm_gat": False}])
    def test_every_kind_of_graph_adds_up(self, folder: Path, options: dict[str, Any]) -> None:
        bundle = load_bundle(folder)
        torch.manual_seed(0)
        config: dict[str, Any] = {**bundle.model.config, "alone": False, **options}  # type: ignore[attr-defined]
        model = create_model("hemogat", **config).eval()
        recognizer = Recognizer(replace(bundle, model=model), workers=1)
        x = recognizer.bank.x[:1].nan_to_num(0.3) + 0.1
        asked = Asked.of(recognizer.bank, "both", x, {})
        torch.testing.assert_close(
            asked.log_odds(1).exp(),
            (p := recognizer.bank.answer(x).probabilities[:, 1]) / (1 - p),
            atol=1e-4,
            rtol=1e-4,
        )
        parts, edges, evidence, baseline = asked.contributions(1, steps=64)
        assert evidence - baseline == pytest.approx(float(parts.sum() + edges.sum()), abs=0.05)
        assert bool(edges.abs().sum() > 1e-4) == ("hm_gat" not in options)

    def test_tokens_have_their_share(self, folder: Path) -> None:
        bundle = load_bundle(folder)
        torch.manual_seed(0)
        config: dict[str, Any] = {**bundle.model.config, "alone": False, "cmt_axis": "tokens"}  # type: ignore[attr-defined]
        recognizer = Recognizer(replace(bundle, model=create_model("hemogat", **config).eval()), workers=1)
        x = recognizer.bank.x[:1].nan_to_num(0.3) + 0.1
        tokens = {"text": torch.randn(5, 3), "audio": torch.randn(9, x.shape[1] - 3)}
        asked = Asked.of(recognizer.bank, "both", x, tokens)
        sequences = {name: Sequences(part, torch.tensor([len(part)])) for name, part in tokens.items()}
        p = recognizer.bank.answer(x, sequences=sequences).probabilities[:, 1]
        torch.testing.assert_close(asked.log_odds(1).exp(), p / (1 - p), atol=1e-4, rtol=1e-4)
        parts, edges, evidence, baseline = asked.contributions(1, steps=64)
        assert len(parts) == x.shape[1] + sum(part.numel() for part in tokens.values())
        assert parts[x.shape[1] :].abs().sum() > 1e-3
        assert evidence - baseline == pytest.approx(float(parts.sum() + edges.sum()), abs=0.05)

    def test_items_without_label_are_named_by_what_the_network_takes_them_for(self, folder: Path) -> None:
        bundle = load_bundle(folder)
        (graph,) = bundle.references
        graph.y[:] = -1
        found: Any = explain(Recognizer(bundle), None, text="aaaa", steps=2)
        assert (found.references["label_is"] == "predicted").all()
        assert set(found.references["label"]) <= set(bundle.labels)

    def test_what_cannot_be_explained(self, recognizer: Recognizer, model_folder: Path, spoken: Path) -> None:
        with pytest.raises(GraphophoneError, match="give a recording, a text, or both"):
            explain(recognizer, None)
        with pytest.raises(GraphophoneError, match="neither text nor audio"):
            explain(recognizer, None, text=" ")
        other = Recognizer.from_pretrained(model_folder)
        with pytest.raises(GraphophoneError, match="glnn hears sound and reads no text"):
            explain(other, spoken.parent / "0.wav", text="aei")
        with pytest.raises(GraphophoneError, match=r"explain: give a recording$"):
            explain(other, None)
