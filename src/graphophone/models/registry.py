"""The models by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphophone.models.base import ModelError, PretrainedModel, read_config
from graphophone.registry import Registry

MODELS: Registry[PretrainedModel] = Registry(
    "model",
    {
        "glnn": "graphophone.models.glnn:GLNN",
        "ast": "graphophone.models.ast:AST",
        "cnn14": "graphophone.models.cnn14:CNN14",
        "cogcn": "graphophone.models.cogcn:CoGCN",
        "compact_ser": "graphophone.models.compact_ser:CompactSER",
        "dialogue_gru": "graphophone.models.dialogue_gru:DialogueGRU",
        "dialogue_transformer": "graphophone.models.dialogue_transformer:DialogueTransformer",
        "ga_gru": "graphophone.models.ga_gru:GAGRU",
        "hemogat": "graphophone.models.hemogat:HemoGAT",
        "lhgnn": "graphophone.models.lhgnn:LHGNN",
        "lstm_gin": "graphophone.models.lstm_gin:LSTMGIN",
        "m3net": "graphophone.models.m3net:M3NET",
        "mmgcn": "graphophone.models.mmgcn:MMGCN",
        "rigsl": "graphophone.models.rigsl:RIGSL",
        "subgraph_ssl": "graphophone.models.subgraph_ssl:SubgraphSSL",
        "vig": "graphophone.models.vig:ViG",
    },
)


def create_model(name: str, **config: Any) -> PretrainedModel:
    """A new model with random weights.

    Args:
        name: As `list_models` gives it.
        config: Keyword arguments of its class.

    Raises:
        UnknownNameError: If the name, or an option, is unknown; the text lists what there is.
    """
    return MODELS.create(name, **config)


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models that match a shell pattern such as ``"glnn*"``."""
    return MODELS.names(pattern)


def load_model(folder: str | Path, *, map_location: str = "cpu", **options: Any) -> PretrainedModel:
    """A saved model of whichever class its ``config.json`` names, in evaluation mode.

    Args:
        folder: Folder that ``save_pretrained`` wrote, or ``"owner/name"`` on the Hugging Face hub.
        map_location: Device to load the weights to.
        options: Passed to ``from_pretrained`` (``revision``, ``token``, ``cache_dir``, ``local_files_only``).

    Raises:
        ModelError: If the folder, its configuration or its weights are missing or damaged, or hold pickled
            weights.
    """
    keys = ("revision", "token", "cache_dir", "local_files_only")
    hub = {key: options[key] for key in keys if key in options}
    config = read_config(folder, **hub)
    name = config.get("model_name")
    if not isinstance(name, str):
        raise ModelError(f"{folder}: config.json names no model_name; save it again with save_pretrained")
    if name not in MODELS:
        raise ModelError(f"{folder}: unknown model {name!r}; known are {', '.join(MODELS.names())}")
    model_class: Any = MODELS.get(name)
    return model_class.from_pretrained(folder, map_location=map_location, **options)
