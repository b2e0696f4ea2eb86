"""What is learned: LightningModules with their objective, optimiser and metrics."""

from lightning import LightningModule

from graphophone.registry import Registry

TASKS: Registry[LightningModule] = Registry(
    "task",
    {
        "graph_classification": "graphophone.tasks.classification:GraphClassification",
    },
)

__all__ = ["TASKS"]
