"""Graph neural networks on sound.

>>> import graphophone as gp
>>> gp.list_models("glnn")
['glnn']
>>> model = gp.create_model("glnn", in_channels=77, num_classes=4)
>>> sum(p.numel() for p in model.parameters())
409124

From a recipe to a trained, tested model, and from a model to an answer::

    run = gp.train("glnn-ravdess", ["--corpus.root", "data/ravdess"])
    recognizer = gp.Recognizer.from_pretrained(run.folder)
    recognizer.process_file("one.wav")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Imported on first use, so that `import graphophone` and `graphophone --help` are quick.
_PUBLIC = {
    "GraphophoneError": "graphophone.errors",
    "AudioError": "graphophone.audio",
    "AudioWarning": "graphophone.audio",
    "Recipe": "graphophone.recipes",
    "load_recipe": "graphophone.recipes",
    "list_recipes": "graphophone.recipes",
    "Run": "graphophone.runs",
    "train": "graphophone.runs",
    "evaluate": "graphophone.runs",
    "create_extractor": "graphophone.features",
    "list_extractors": "graphophone.features",
    "create_graph": "graphophone.graphs",
    "list_graphs": "graphophone.graphs",
    "create_model": "graphophone.models",
    "list_models": "graphophone.models",
    "load_model": "graphophone.models",
    "create_protocol": "graphophone.evaluation.protocols",
    "Recognizer": "graphophone.inference",
    "timeline": "graphophone.inference",
    "explain": "graphophone.inference",
}
_PACKAGES = ("audio", "corpora", "features", "graphs", "nn", "models", "tasks", "evaluation", "inference", "recipes")

if TYPE_CHECKING:
    from graphophone import audio as audio
    from graphophone import corpora as corpora
    from graphophone import evaluation as evaluation
    from graphophone import features as features
    from graphophone import graphs as graphs
    from graphophone import inference as inference
    from graphophone import models as models
    from graphophone import nn as nn
    from graphophone import recipes as recipes
    from graphophone import tasks as tasks
    from graphophone.audio import AudioError as AudioError
    from graphophone.audio import AudioWarning as AudioWarning
    from graphophone.errors import GraphophoneError as GraphophoneError
    from graphophone.evaluation.protocols import create_protocol as create_protocol
    from graphophone.features import create_extractor as create_extractor
    from graphophone.features import list_extractors as list_extractors
    from graphophone.graphs import create_graph as create_graph
    from graphophone.graphs import list_graphs as list_graphs
    from graphophone.inference import Recognizer as Recognizer
    from graphophone.inference import explain as explain
    from graphophone.inference import timeline as timeline
    from graphophone.models import create_model as create_model
    from graphophone.models import list_models as list_models
    from graphophone.models import load_model as load_model
    from graphophone.recipes import Recipe as Recipe
    from graphophone.recipes import list_recipes as list_recipes
    from graphophone.recipes import load_recipe as load_recipe
    from graphophone.runs import Run as Run
    from graphophone.runs import evaluate as evaluate
    from graphophone.runs import train as train

__all__ = ["__version__", *sorted(_PUBLIC), *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"graphophone.{name}")
    raise AttributeError(f"module 'graphophone' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
