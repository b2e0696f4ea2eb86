"""From a file to an answer: model folders, the recognizer, timelines and explanations."""

from __future__ import annotations

from graphophone.inference.bundle import Bundle, ModelFolderError, load_bundle, save_bundle
from graphophone.inference.explain import Explanation, explain
from graphophone.inference.output import write_answers
from graphophone.inference.recognizer import UNSURE, Recognizer
from graphophone.inference.timeline import SILENCE, iter_timeline, merge_segments, timeline

__all__ = [
    "SILENCE",
    "UNSURE",
    "Bundle",
    "Explanation",
    "ModelFolderError",
    "Recognizer",
    "explain",
    "iter_timeline",
    "load_bundle",
    "merge_segments",
    "save_bundle",
    "timeline",
    "write_answers",
]
