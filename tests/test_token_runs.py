"""Cross-attention over tokens and frames, from a recipe to answers: what was learned is what answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

import graphophone as gp
from graphophone.errors import GraphophoneError
from graphophone.features.base import EXTRACTORS, Extractor, Level
from graphophone.features.extraction import Outcome


class Words(Extractor):
    """Three numbers of each letter: an encoder that gives tokens, without a network."""

    name = "words"
    reads = "text"

    def __init__(self, *, sequence: bool = True) -> None:
        self.sequence = sequence

    @property
    def level(self) -> Level:
        return "frame" if self.sequence else "utterance"

    @property
    def hop(self) -> float | None:
        return None

    @property
    def columns(self) -> tuple[str, ...]:
        return ("a", "b", "c")

    @property
    def config(self) -> dict[str, Any]:
        return {"sequence": self.sequence}

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        raise AssertionError("it reads text")

    def encode(self, texts: Any) -> list[np.ndarray]:
        found = [np.array([[ord(c) % 2, ord(c) % 3, ord(c) % 5] for c in text], dtype=np.float32) for text in texts]
        return found if self.sequence else [tokens.mean(axis=0) for tokens in found]

    def outcomes(self, corpus: Any, cache: Any, workers: Any, max_duration: Any) -> Any:
        for index, text in enumerate(corpus.table["text"]):
            there = isinstance(text, str) and bool(text)
            yield Outcome(index, array=self.encode([text])[0]) if there else Outcome(index, error="it has no text")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Forty utterances of two classes, told apart by pitch and by order of letters; some lack a recording or a text."""
    monkeypatch.setitem(EXTRACTORS._entries, "words", Words)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        low = number % 2
        path = tmp_path / f"{number}.wav"
        time = np.arange(int(16000 * rng.uniform(0.3, 0.5))) / 16000
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * (300 if low else 1500) * rng.uniform(0.9, 1.1) * time), 16000)
        text = ("abab" if low else "cdee") * int(rng.integers(1, 4))
        rows.append(
            {
                "id": f"u{number}",
                "audio": "" if number in (36, 37) else path.name,
                "text": "" if number in (38, 39) else text,
                "label": "low" if low else "high",
            }
        )
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    return {
        "name": "tokens",
        "corpus": {"name": "table", "root": str(tmp_path / "table.csv")},
        "features": {"name": "modalities", "text": "words", "audio": "fbank", "sequences": True},
        "model": {"name": "hemogat", "hidden_channels": 8, "heads": 2, "num_layers": 2, "alone": True},
        "task": {"name": "utterance_graph", "learning_rate": 0.01},
        "training": {"epochs": 12, "patience": 0, "threads": 1},
        "protocol": {"name": "stratified", "test": 0.25, "validation": 0.2},
    }


@pytest.mark.filterwarnings("ignore")
def test_from_recipe_to_answers(recipe: dict[str, Any], tmp_path: Path) -> None:
    run = gp.train(recipe, output=tmp_path / "runs", progress=False)
    assert run.metrics["wa"]["mean"] >= 0.9
    recognizer = gp.Recognizer.from_pretrained(run.folder)
    assert recognizer.bundle.model.cmt_axis == "tokens"
    known = pd.read_csv(run.folder / "predictions.csv").set_index("id")
    table = pd.read_csv(tmp_path / "table.csv", keep_default_na=False).set_index("id").loc[known.index]
    table["audio"] = [str(tmp_path / name) if name else "" for name in table["audio"]]
    together = recognizer.process_table(table)
    np.testing.assert_allclose(together["p_low"], known["p_low"], atol=1e-5)
    both = table[(table["audio"] != "") & (table["text"] != "")].iloc[0]
    alone = recognizer.process_file(both["audio"], text=both["text"])
    assert alone["p_low"].iloc[0] == pytest.approx(known.loc[both.name, "p_low"], abs=1e-5)
    # The order of tokens is no matter of attention without positions, but which tokens there are is.
    other = recognizer.process_file(both["audio"], text="cdee" if "ab" in both["text"] else "abab")
    assert abs(other["p_low"].iloc[0] - alone["p_low"].iloc[0]) > 1e-3
    with pytest.raises(GraphophoneError, match="vectors alone do not tell them"):
        recognizer.probabilities([np.zeros((1, recognizer.bundle.pipeline.dims), dtype=np.float32)])


def test_sequences_need_tokens(recipe: dict[str, Any]) -> None:
    recipe["features"]["text"] = {"name": "words", "sequence": False}
    with pytest.raises(GraphophoneError, match=r"features\.sequences is true, but words gives one vector of text"):
        gp.train(recipe, progress=False)


@pytest.mark.parametrize("model", ["subgraph_ssl", "glnn"])
def test_other_networks_need_every_modality(recipe: dict[str, Any], tmp_path: Path, model: str) -> None:
    task = "subgraph_classification" if model == "subgraph_ssl" else "graph_classification"
    recipe |= {
        "model": {"name": model},
        "task": {"name": task},
        "graph": {"name": "signed" if task[0] == "s" else "line"},
    }
    recipe["features"] |= {"sequences": False}
    with pytest.raises(GraphophoneError, match="4 items lack a modality, the first u36"):
        gp.train(recipe, output=tmp_path / "runs", progress=False)


@pytest.mark.filterwarnings("ignore")
def test_controls_see_what_the_network_reads(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["features"] |= {"sequences": False}
    recipe["model"] |= {"modality": "text", "alone": False}
    recipe["training"] |= {"epochs": 1}
    table = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    # Texts that say nothing: whoever knows the class has heard it.
    table.assign(text="abab").to_csv(tmp_path / "table.csv", index=False)
    run = gp.train(recipe, output=tmp_path / "runs", progress=False)
    assert run.metrics["controls"]["logistic_regression"]["ua"]["mean"] == pytest.approx(0.5)
