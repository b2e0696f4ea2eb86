"""What is learned: LightningModules with their objective, optimiser and metrics."""

from lightning import LightningModule

from graphophone.registry import Registry

TASKS: Registry[LightningModule] = Registry(
    "task",
    {
        "graph_classification": "graphophone.tasks.classification:GraphClassification",
        "clip_classification": "graphophone.tasks.clip_classification:ClipClassification",
        "clip_tagging": "graphophone.tasks.clip_tagging:ClipTagging",
        "dialogue_classification": "graphophone.tasks.dialogues:DialogueClassification",
        "subgraph_classification": "graphophone.tasks.subgraphs:SubgraphClassification",
        "transductive_classification": "graphophone.tasks.transductive_classification:TransductiveClassification",
        "utterance_graph": "graphophone.tasks.utterance_graph:UtteranceGraph",
    },
)

__all__ = ["TASKS"]
