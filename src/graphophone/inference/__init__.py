"""From a file to an answer: model folders, the recognizer, timelines, explanations, export."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphophone.inference.bundle import Bundle, ModelFolderError, load_bundle, save_bundle, update_bundle
    from graphophone.inference.conversations import Conversation
    from graphophone.inference.explanations import Explanation, explain
    from graphophone.inference.export import ExportError, export_onnx
    from graphophone.inference.output import write_answers
    from graphophone.inference.recognizer import UNSURE, Recognizer
    from graphophone.inference.recording_explanations import RecordingExplanation
    from graphophone.inference.timelines import SILENCE, iter_timeline, merge_segments, tag_segments, timeline
    from graphophone.inference.turn_explanations import ConversationExplanation, explain_conversation
    from graphophone.inference.utterance_explanations import UtteranceExplanation

# Imported on first use: the processes that compute features come through here and need neither the network nor torch.
_MODULES = {
    "SILENCE": "timelines",
    "UNSURE": "recognizer",
    "Bundle": "bundle",
    "Conversation": "conversations",
    "ConversationExplanation": "turn_explanations",
    "Explanation": "explanations",
    "ExportError": "export",
    "ModelFolderError": "bundle",
    "Recognizer": "recognizer",
    "RecordingExplanation": "recording_explanations",
    "UtteranceExplanation": "utterance_explanations",
    "explain": "explanations",
    "explain_conversation": "turn_explanations",
    "export_onnx": "export",
    "iter_timeline": "timelines",
    "load_bundle": "bundle",
    "merge_segments": "timelines",
    "save_bundle": "bundle",
    "tag_segments": "timelines",
    "timeline": "timelines",
    "update_bundle": "bundle",
    "write_answers": "output",
}

__all__ = [
    "SILENCE",
    "UNSURE",
    "Bundle",
    "Conversation",
    "ConversationExplanation",
    "Explanation",
    "ExportError",
    "ModelFolderError",
    "Recognizer",
    "RecordingExplanation",
    "UtteranceExplanation",
    "explain",
    "explain_conversation",
    "export_onnx",
    "iter_timeline",
    "load_bundle",
    "merge_segments",
    "save_bundle",
    "tag_segments",
    "timeline",
    "update_bundle",
    "write_answers",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
