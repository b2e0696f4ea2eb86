"""Small models with random weights, and recordings of every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from graphophone.features import FeaturePipeline, Standardizer, create_extractor
from graphophone.graphs import create_graph
from graphophone.graphs.subgraphs import SubgraphSampler
from graphophone.inference import Bundle, Recognizer, load_bundle, save_bundle
from graphophone.inference.bundle import Kind
from graphophone.models import create_model
from graphophone.models.attached import draw_references

LABELS = ("neutral", "happy", "angry")
RATE = 16000


def make_voice(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Something voiced that changes over time, `[samples]` float32."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = 120 + 60 * rng.random() + 30 * np.sin(2 * np.pi * (0.5 + rng.random()) * time + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
    envelope = 0.15 * (1.1 + np.sin(2 * np.pi * (2 + rng.random()) * time))
    return (envelope * buzz + 0.003 * rng.standard_normal(len(time))).astype(np.float32)


def make_parts(*, metadata: tuple[str, ...] = (), seed: int = 0) -> dict:
    """What `save_bundle` takes: a small random GLNN on few mel bands."""
    pipeline = FeaturePipeline(create_extractor("fbank", num_mel_bins=12), decimate=4, metadata=metadata)
    frames = [pipeline(make_voice(1.0, seed=i), RATE) for i in range(4)]
    skip = range(pipeline.acoustic_dims, pipeline.dims)
    torch.manual_seed(seed)
    network = create_model("glnn", in_channels=pipeline.dims, num_classes=len(LABELS), widths=(16, 12))
    # Random weights answer nearly the same to everything; larger ones tell recordings apart.
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(3)
    return {
        "model": network.eval(),
        "pipeline": pipeline,
        "graph": create_graph("cycle_topk", k=4),
        "standardizer": Standardizer.fit(frames, skip=list(skip)),
        "labels": LABELS,
    }


TAGS = ("dog", "rain, heavy", "siren", "speech")
CLIP_FRAMES, BANDS = 60, 16


def make_clip_parts(*, kind: Kind = "tagging", seed: int = 0) -> dict:
    """What `save_bundle` takes: a small random LHGNN on clips of 0.6 s."""
    pipeline = FeaturePipeline(create_extractor("fbank", num_mel_bins=BANDS), frames=CLIP_FRAMES)
    frames = torch.from_numpy(np.stack([pipeline(make_voice(0.7, seed=i), RATE) for i in range(6)]))
    standardizer = Standardizer.constant(float(frames.mean()), float(frames.std()), BANDS)
    torch.manual_seed(seed)
    small = {"channels": (8, 16), "blocks": (1, 1), "reduction": (2, 1), "k": 3, "P": 4, "K": 2, "head_width": 16}
    network = create_model(
        "lhgnn", num_classes=len(TAGS), num_mel_bins=BANDS, frames=CLIP_FRAMES, drop_path=0.0, **small
    )
    # Statistics of the batches it will see: with those of a fresh network its numbers grow from block to block.
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        network.train()(torch.from_numpy(standardizer(frames.numpy())))
    return {
        "model": network.eval(),
        "pipeline": pipeline,
        "graph": create_graph("none"),
        "standardizer": standardizer,
        "labels": TAGS,
        "kind": kind,
    }


def make_recording_parts(*, draws: int = 3, how: str = "random", edges: int = 4, seed: int = 0, **options: Any) -> dict:
    """What `save_bundle` takes: a small random SubgraphSSL beside graphs of 12 of 30 known recordings."""
    pipeline = FeaturePipeline(create_extractor("logmel128"))
    rows = np.concatenate([pipeline(make_voice(0.4, seed=i), RATE) for i in range(30)])
    standardizer = Standardizer.fit([rows])
    x, number = torch.from_numpy(standardizer(rows)), torch.arange(30)
    torch.manual_seed(seed)
    network = create_model(
        "subgraph_ssl", in_channels=pipeline.dims, num_classes=len(LABELS), **{"hidden_channels": 16, **options}
    )
    # Random weights answer nearly the same to everything; larger ones tell recordings apart.
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(2)
    sampler = SubgraphSampler(x, torch.where(number < 12, number % 3, -1), per_class=3, unlabelled=3)
    references = draw_references(sampler, number % 3, draws=draws, seed=seed)
    for graph in references:
        graph.id = [f"person/{i}.wav" for i in graph.node.tolist()]
    return {
        "model": network.eval(),
        "pipeline": pipeline,
        "graph": create_graph("signed"),
        "standardizer": standardizer,
        "labels": LABELS,
        "references": references,
        "attachment": {"edges": edges, "how": how, "seed": 7},
    }


FEELINGS = ("calm", "glad", "sad")


def make_conversation_bundle(
    name: str = "dialogue_gru",
    *,
    parts: tuple[str, ...] = ("text", "audio"),
    plain: bool = False,
    seed: int = 0,
    **options: Any,
) -> Bundle:
    """A small random network of conversations that reads texts and sound, or one of them; `plain`: sound, no texts."""
    widths = {"audio": 128} if plain else {part: {"text": 3, "audio": 8}[part] for part in parts}
    extractors: dict[str, Any] = {"text": "vowels", "audio": {"name": "fbank", "num_mel_bins": 8}}
    named = create_extractor("modalities", **{part: extractors[part] for part in parts})
    pipeline = FeaturePipeline(create_extractor("logmel128") if plain else named)
    level = -0.3 if parts == ("text",) else 2.0
    known = 0.5 * np.random.default_rng(seed).standard_normal((20, pipeline.dims)).astype(np.float32) - level
    torch.manual_seed(seed)
    network = create_model(
        name,
        in_channels=widths,
        num_classes=len(FEELINGS),
        hidden_channels=16,
        **options,
    )
    # Random weights answer nearly the same to everything; larger ones tell turns apart.
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(2)
    return Bundle(
        model=network.eval(),
        pipeline=pipeline,
        graph=create_graph("none"),
        standardizer=Standardizer.fit([known]),
        labels=FEELINGS,
    )


def make_call(recording: Path, turns: int = 6) -> pd.DataFrame:
    """One conversation of two speakers; the third turn has no text, the fourth no sound."""
    start = np.arange(turns) * 0.2
    table = pd.DataFrame(
        {
            "dialogue": "call",
            "position": np.arange(turns),
            "speaker": [["Anna", "Ben"][i % 2] for i in range(turns)],
            "text": [("aei", "aaa", None, "eei", "iii")[i % 5] for i in range(turns)],
            "audio": [None if i % 6 == 3 else str(recording) for i in range(turns)],
            "start": start,
            "end": start + 0.3,
        }
    )
    return table.astype({"text": object, "audio": object})


@pytest.fixture(scope="session")
def conversation_bundle() -> Callable[..., Bundle]:
    return make_conversation_bundle


@pytest.fixture(scope="session")
def call() -> Callable[..., pd.DataFrame]:
    return make_call


@pytest.fixture(scope="session")
def recording_parts() -> Callable[..., dict]:
    return make_recording_parts


@pytest.fixture(scope="session")
def recording_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("recordings") / "model", **make_recording_parts(), corpus="tones")


@pytest.fixture(scope="session")
def recording_bundle(recording_folder: Path) -> Bundle:
    return load_bundle(recording_folder)


@pytest.fixture
def by_recordings(recording_bundle: Bundle) -> Recognizer:
    return Recognizer(recording_bundle, workers=1)


@pytest.fixture(scope="session")
def clip_parts() -> Callable[..., dict]:
    return make_clip_parts


@pytest.fixture(scope="session")
def tagger_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("tagger") / "model", **make_clip_parts(), corpus="street")


@pytest.fixture(scope="session")
def tagger_bundle(tagger_folder: Path) -> Bundle:
    return load_bundle(tagger_folder)


@pytest.fixture
def tagger(tagger_bundle: Bundle) -> Recognizer:
    return Recognizer(tagger_bundle, workers=1)


@pytest.fixture(scope="session")
def voice() -> Callable[..., np.ndarray]:
    return make_voice


@pytest.fixture(scope="session")
def parts() -> Callable[..., dict]:
    return make_parts


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("bundle") / "model", **make_parts(), corpus="tones", protocol="none")


@pytest.fixture(scope="session")
def bundle(model_folder: Path) -> Bundle:
    return load_bundle(model_folder)


@pytest.fixture
def recognizer(bundle: Bundle) -> Recognizer:
    return Recognizer(bundle, workers=1)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a signal below a temporary folder and give its path."""

    def write(name: str, signal: np.ndarray, rate: int = RATE, **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, signal, rate, **options)
        return path

    return write
