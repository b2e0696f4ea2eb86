"""One file per published system, and a registry of them.

model = create_model("glnn", in_channels=77, num_classes=4)
model.save_pretrained("folder")
model = load_model("folder")
"""

from graphophone.models.base import GraphClassifier, ModelError, PretrainedModel, SpectrogramClassifier
from graphophone.models.registry import MODELS, create_model, list_models, load_model
from graphophone.models.weights import LoadReport, load_weights

__all__ = [
    "MODELS",
    "GraphClassifier",
    "LoadReport",
    "ModelError",
    "PretrainedModel",
    "SpectrogramClassifier",
    "create_model",
    "list_models",
    "load_model",
    "load_weights",
]
