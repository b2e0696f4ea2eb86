from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from graphophone import cli, corpora
from graphophone.evaluation.elsewhere import evaluate_elsewhere
from graphophone.evaluation.metrics import MetricError
from graphophone.evaluation.tagging import tagging_metrics
from graphophone.features import FeaturePipeline, Standardizer, create_extractor
from graphophone.graphs import create_graph
from graphophone.inference import Recognizer, save_bundle
from graphophone.inference.bundle import Kind
from graphophone.models import create_model

LABELS = ("loud", "high", "low")
FRAMES, BANDS = 30, 12


def save(folder: Path, kind: Kind, labels: tuple[str, ...] = LABELS) -> Path:
    """A small LHGNN with random weights."""
    torch.manual_seed(1)
    small = {"channels": (8, 16), "blocks": (1, 1), "reduction": (2, 1), "k": 3, "P": 4, "K": 2, "head_width": 16}
    model = create_model("lhgnn", num_classes=len(labels), num_mel_bins=BANDS, frames=FRAMES, drop_path=0.0, **small)
    return save_bundle(
        folder,
        model.eval(),
        FeaturePipeline(create_extractor("fbank", num_mel_bins=BANDS), frames=FRAMES),
        create_graph("none"),
        Standardizer.constant(-5.0, 4.0, BANDS),
        labels,
        kind=kind,
        corpus="street",
    )


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("elsewhere") / "tagger", "tagging")


@pytest.fixture(scope="module")
def tagged(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tones as a table of tags, one of which no model here knows."""
    files = sorted(tones.rglob("*.wav"))
    labels = [f"{file.parent.name};odd" if i % 5 == 0 else file.parent.name for i, file in enumerate(files)]
    labels[0] = "odd"  # no tag that is known: an item of nothing
    path = tmp_path_factory.mktemp("tagged") / "tags.csv"
    pd.DataFrame({"audio": [str(file) for file in files], "labels": labels}).to_csv(path, index=False)
    return path


def test_tags_are_scored_over_those_that_both_know(tagger: Path, tagged: Path) -> None:
    recognizer = Recognizer.from_pretrained(tagger, workers=1)
    corpus = corpora.load("table", tagged)
    found = evaluate_elsewhere(recognizer, corpus)
    assert found.shared == ("high", "low")
    assert found.unknown == ("odd",)
    assert found.metrics["n"] == len(corpus) == 32  # also the item without a known tag
    answers = recognizer.process_table(corpus.table)
    y = np.array([[name in tags for name in ("high", "low")] for tags in corpus.table["labels"]])
    assert y.any(axis=1).sum() == 31
    assert found.metrics == tagging_metrics(y.astype(int), answers[["p_high", "p_low"]].to_numpy(), ("high", "low"))


def test_one_label_per_item_is_one_tag(tagger: Path, tones: Path) -> None:
    found = evaluate_elsewhere(Recognizer.from_pretrained(tagger, workers=1), corpora.load("folder", tones))
    assert found.metrics["kind"] == "tagging"
    assert found.shared == ("high", "low")
    assert [row["support"] for row in found.metrics["per_class"]] == [16, 16]


def test_a_model_of_one_label_may_answer_with_any_of_its_own(tones: Path, tagged: Path, tmp_path: Path) -> None:
    recognizer = Recognizer.from_pretrained(save(tmp_path / "m", "classification"), workers=1)
    found = evaluate_elsewhere(recognizer, corpora.load("folder", tones))
    assert found.metrics["classes"] == list(LABELS)
    assert [row["support"] for row in found.metrics["per_class"]] == [0, 16, 16]
    with pytest.raises(MetricError, match="several labels per item; this model gives one"):
        evaluate_elsewhere(recognizer, corpora.load("table", tagged))


def test_nothing_in_common(tones: Path, tmp_path: Path) -> None:
    recognizer = Recognizer.from_pretrained(save(tmp_path / "m", "tagging", ("a", "b")), workers=1)
    with pytest.raises(MetricError, match="share no label: high, low there, a, b here"):
        evaluate_elsewhere(recognizer, corpora.load("folder", tones))


def test_command(tagger: Path, tagged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(tagger), "--corpus", "table", "--root", str(tagged)]) == cli.OK
    said = " ".join(capsys.readouterr().out.split())
    assert "32 items of tags with the tags high and low, by a model of street: mAP 0." in said
    assert "mAUC 0." in said
