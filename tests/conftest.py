"""What every test shares: one thread, and the folder of real corpora where there is one."""

import contextlib
import os
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import soundfile
import torch
from hypothesis import HealthCheck, settings

from graphophone.features.base import EXTRACTORS, Level
from graphophone.features.text import Encoded, TextExtractor

torch.set_num_threads(1)
settings.register_profile("graphophone", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("graphophone")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("GRAPHOPHONE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real corpora; the test is skipped where GRAPHOPHONE_DATA names none."""
    folder = os.environ.get("GRAPHOPHONE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("GRAPHOPHONE_DATA names no folder of real corpora")
    return Path(folder)


def write_tone(path: Path, frequency: float, seconds: float, rng: np.random.Generator) -> None:
    """A noisy tone with an envelope of its own, as a 16 kHz wav."""
    time = np.arange(int(16000 * seconds)) / 16000
    signal = 0.3 * np.sin(2 * np.pi * frequency * time) * rng.uniform(0.5, 1.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal + 0.02 * rng.standard_normal(len(time)), 16000)


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus in folders: classes ``low`` and ``high``, speakers ``a`` to ``d`` in the file names, 32 clips."""
    root = tmp_path_factory.mktemp("corpora") / "tones"
    rng = np.random.default_rng(0)
    for label, frequency in (("low", 400.0), ("high", 1500.0)):
        for speaker, scale in zip("abcd", (0.9, 1.0, 1.1, 1.2), strict=True):
            for number in range(4):
                path = root / label / f"{speaker}_{number}.wav"
                write_tone(path, frequency * scale * rng.uniform(0.9, 1.1), rng.uniform(0.3, 0.5), rng)
    return root


@pytest.fixture(scope="session")
def make_tone_recipe(tones: Path) -> Callable[[], dict[str, Any]]:
    """Makes recipes that learn the tones in a second or two."""
    return lambda: {
        "name": "tones",
        "corpus": {"name": "folder", "root": str(tones), "speaker": r"([a-d])_\d"},
        "features": {"name": "fbank", "num_mel_bins": 20, "decimate": 2},
        "graph": {"name": "cycle_topk", "k": 3},
        "model": {"name": "glnn", "widths": [16, 16], "pooling": "mean", "dropout": 0.1},
        "augment": {"noise": 0.05, "time_masks": 1, "phase": True},
        "task": {
            "name": "graph_classification",
            "optimizer": "adamw",
            "learning_rate": 0.01,
            "schedule": "onecycle",
            "warmup": 0.3,
        },
        "training": {"epochs": 10, "batch_size": 8, "patience": 0, "threads": 1, "device": "cpu"},
        "protocol": {"name": "speaker-independent", "groups": 4},
        "seeds": [0],
    }


@pytest.fixture
def tone_recipe(make_tone_recipe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A recipe that learns the tones in a second or two, to be changed at will."""
    return make_tone_recipe()


@pytest.fixture(scope="session")
def planetoid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Cora in the published layout: communities, with words that tell them apart a little."""
    classes, known, rest, test = 3, 12, 520, 30
    root = tmp_path_factory.mktemp("planetoid")
    folder = root / "Cora" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    nodes = rest + test
    y = np.arange(nodes) % classes
    x = (rng.random((nodes, 24)) < 0.1 + 0.25 * (np.arange(24) % classes == y[:, None])).astype(np.float32)
    x[:, 0] = 1
    x[5] = 0  # a paper without words
    graph = {}
    for node in range(nodes):
        mates = rng.choice(np.flatnonzero(y == y[node]), 3)
        graph[node] = [int(mate) for mate in mates if mate != node]
    one_hot = np.eye(classes, dtype=np.int32)[y]
    order = rng.permutation(np.arange(rest, nodes))
    parts = {"x": slice(0, known), "allx": slice(0, rest)}
    for name, part in parts.items():
        (folder / f"ind.cora.{name}").write_bytes(pickle.dumps(scipy.sparse.csr_matrix(x[part]), protocol=2))
        (folder / f"ind.cora.{name.replace('x', 'y')}").write_bytes(pickle.dumps(one_hot[part], protocol=2))
    (folder / "ind.cora.tx").write_bytes(pickle.dumps(scipy.sparse.csr_matrix(x[order]), protocol=2))
    (folder / "ind.cora.ty").write_bytes(pickle.dumps(one_hot[order], protocol=2))
    held = defaultdict(list, graph)
    (folder / "ind.cora.graph").write_bytes(pickle.dumps(held, protocol=2))
    (folder / "ind.cora.test.index").write_text("".join(f"{node}\n" for node in order))
    return root


SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
WORDS = [*"abcdefghijklm", "yeah", "what", "is", "this", "good", "day", "to", "be", "happy", "or", "sad", "never"]
WORDS += ["mind", "you", "know", "am", "fine", "thanks", "no"]


def write_text_encoder(folder: Path, kind: str = "bert", *, seed: int = 0, pooler: bool = True, **options: Any) -> Path:
    """BERT or RoBERTa of two layers and 16 dimensions, with a tokeniser of the whole words ``WORDS``."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate([*SPECIAL.values(), *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config_class, model_class = {
        "bert": (transformers.BertConfig, transformers.BertModel),
        "roberta": (transformers.RobertaConfig, transformers.RobertaModel),
    }[kind]
    settings = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 40,
        "initializer_range": 0.5,  # the usual 0.02 makes all texts alike
        "pad_token_id": 0,
        **options,
    }
    torch.manual_seed(seed)
    model_class(config_class(vocab_size=len(vocabulary), **settings), add_pooling_layer=pooler).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL).save_pretrained(folder)
    return folder


@pytest.fixture
def make_text_encoder(tmp_path: Path) -> Callable[..., Path]:
    """:func:`write_text_encoder`, in a folder of its own below that of the test."""
    return lambda *words, **options: write_text_encoder(
        tmp_path / f"encoder{len(list(tmp_path.iterdir()))}", *words, **options
    )


def write_speech_encoder(
    folder: Path, kind: str = "wav2vec2", *, seed: int = 0, normalise: bool = True, **options: Any
) -> Path:
    """wav2vec 2.0, HuBERT or WavLM of two layers and 16 dimensions, with the published convolutions, but narrow."""
    import transformers

    config_class, model_class = {
        "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
        "hubert": (transformers.HubertConfig, transformers.HubertModel),
        "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
    }[kind]
    settings = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "conv_dim": (8,) * 7,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "initializer_range": 0.3,
        **options,
    }
    torch.manual_seed(seed)
    model_class(config_class(**settings)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise).save_pretrained(folder)
    return folder


@pytest.fixture
def make_speech_encoder(tmp_path: Path) -> Callable[..., Path]:
    """:func:`write_speech_encoder`, in a folder of its own below that of the test."""
    return lambda *words, **options: write_speech_encoder(
        tmp_path / f"encoder{len(list(tmp_path.iterdir()))}", *words, **options
    )


class Vowels(TextExtractor):
    """Shares of a, e and i among the letters of a text: a text encoder without a network."""

    name = "vowels"

    @property
    def level(self) -> Level:
        return "utterance"

    @property
    def columns(self) -> tuple[str, ...]:
        return ("a", "e", "i")

    @property
    def config(self) -> dict[str, Any]:
        return {}

    def _encode(self, texts: Sequence[str]) -> Iterator[Encoded]:
        for number, text in enumerate(texts):
            shares = [text.count(letter) / len(text) for letter in self.columns]
            yield number, np.array(shares, dtype=np.float32), ()


@contextlib.contextmanager
def vowels_registered() -> Iterator[None]:
    """`Vowels` among the extractors, in the block under it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EXTRACTORS._entries, "vowels", Vowels)
        yield


@pytest.fixture
def vowels() -> Iterator[None]:
    """`Vowels` among the extractors, for one test."""
    with vowels_registered():
        yield


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 120 utterances, low, middle and high tones with many a, e and i in their texts.

    Every tenth has no recording, every tenth no text; neither is sure to tell the class. One recording is damaged.
    """
    root = tmp_path_factory.mktemp("spoken")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(120):
        label = number % 3
        write_tone(root / f"{number}.wav", (300, 1000, 3000)[label] * rng.uniform(0.7, 1.4), 0.2, rng)
        letters = rng.choice(list("aei"), p=np.where(np.arange(3) == label, 0.6, 0.2), size=12)
        rows.append(
            {
                "id": f"u{number}",
                "audio": "" if number % 10 == 3 else f"{number}.wav",
                "text": "" if number % 10 == 6 else "".join(letters),
                "label": ("low", "middle", "high")[label],
                "speaker": f"s{number // 12}",
            }
        )
    (root / "10.wav").write_bytes(b"RIFF nothing")
    pd.DataFrame(rows).to_csv(root / "table.csv", index=False)
    return root / "table.csv"


@pytest.fixture(scope="session")
def make_spoken_recipe(spoken: Path) -> Callable[..., dict[str, Any]]:
    """Makes recipes that learn the utterances of `spoken` in a few seconds; options go to the model."""
    return lambda **model: {
        "name": "spoken",
        "corpus": {"name": "table", "root": str(spoken)},
        "features": {"name": "modalities", "text": "vowels", "audio": "logmel128"},
        "graph": {"name": "modal_knn", "k_text": 2, "k_audio": 3},
        "model": {
            "name": "hemogat", "hidden_channels": 16, "heads": 2, "alone": True, "cmt_axis": "pooled", **model,
        },
        "task": {"name": "utterance_graph", "learning_rate": 0.01},
        "training": {"epochs": 15, "patience": 0, "threads": 1, "device": "cpu"},
        "protocol": {"name": "speaker-independent", "groups": 3},
        "seeds": [0],
    }  # fmt: skip


@pytest.fixture(scope="session")
def spoken_run(make_spoken_recipe: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One training on `spoken`, with its report."""
    from graphophone import runs

    folder = tmp_path_factory.mktemp("spoken-runs")
    with vowels_registered(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHOPHONE_CACHE", str(folder / "cache"))
        return runs.train(make_spoken_recipe(), output=folder / "runs", folds=[0], progress=False)


def write_modalities(folder: Path, *, items: int = 120, seed: int = 0) -> Path:
    """A corpus of ready vectors of text and audio: three classes, published parts, dialogues of ten utterances."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, items)
    vectors = {
        name: (rng.standard_normal((items, width)) + 1.2 * np.eye(3, width)[label]).astype(np.float32)
        for name, width in (("text", 12), ("audio", 8))
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "vectors.npz", **vectors)
    pd.DataFrame(
        {
            "id": [f"u{n}" for n in range(items)],
            "text": [f"words {'of ' * (n % 7)}{n}" for n in range(items)],
            "label": np.array(["glad", "sad", "calm"])[label],
            "dialogue": [f"d{n // 10}" for n in range(items)],
            "split": np.where(np.arange(items) < 0.75 * items, "train", "test"),
        }
    ).to_csv(folder / "items.csv", index=False)
    return folder


@pytest.fixture
def modal_recipe(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A small HemoGAT on such a corpus below the test's own folder; called again, on one that is written anew."""

    def make(*, items: int = 120, seed: int = 0, epochs: int = 3) -> dict[str, Any]:
        return {
            "name": "two",
            "corpus": {"name": "features", "root": str(write_modalities(tmp_path / "data", items=items, seed=seed))},
            "features": {
                "name": "modalities",
                "text": {"name": "given", "dims": 12},
                "audio": {"name": "given", "dims": 8},
            },
            "graph": {"name": "modal_knn", "k_text": 3, "k_audio": 2},
            "model": {"name": "hemogat", "hidden_channels": 8, "heads": 2, "cmt_axis": "pooled"},
            "task": {"name": "utterance_graph", "learning_rate": 0.01},
            "training": {"epochs": epochs, "patience": 0, "threads": 1, "device": "cpu"},
            "protocol": {"name": "official", "validation": 0.2, "validation_by": "dialogue"},
            "seeds": [0],
        }

    return make
