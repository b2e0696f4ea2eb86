"""Features that others publish as pickles, turned once into a table and vectors that the corpus ``features`` reads.

Three arrangements are known: a list of items, each a dictionary; a dictionary of columns (or of parts of a split, each
either of these); and, where every dictionary is one of conversations, a sequence per conversation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from graphophone.corpora.base import SPLITS, CorpusError
from graphophone.corpora.features import ITEMS, VECTORS
from graphophone.corpora.layouts import Layout, get_layout
from graphophone.corpora.transcripts import mend_controls
from graphophone.corpora.unpickling import read_pickle
from graphophone.files import write_csv

_COLUMNS = {
    "labels": "label",
    "emotion": "label",
    "raw_text": "text",
    "sentence": "text",
    "sentences": "text",
    "utterance": "text",
    "transcript": "text",
    "speakers": "speaker",
    "ids": "id",
    "videoids": "id",
}
"""Usual names of columns, in small letters, and ours."""
_PARTS = ("train", "validation", "test")  # a conversation in several is of the last
_VECTORS = {
    "text": "text",
    "language": "text",
    "bert": "text",
    "roberta": "text",
    "audio": "audio",
    "acoustic": "audio",
    "speech": "audio",
    "video": "video",
    "visual": "video",
    "vision": "video",
}
"""First words of names of arrays, and the modality they are of."""


@dataclass(frozen=True, eq=False)
class Converted:
    """What :func:`convert` made.

    Attributes:
        table: The items: one row each.
        vectors: Name to an array float32 ``[items, dims]``; NaN in the rows of items that lack it.
        left_out: What was not taken over, with the reason.
        notes: What else is to be said of it, of files of a known layout.
    """

    table: pd.DataFrame
    vectors: dict[str, np.ndarray]
    left_out: tuple[str, ...]
    notes: tuple[str, ...] = ()


def convert(
    files: Sequence[str | Path],
    output: str | Path,
    *,
    names: Sequence[Sequence[str]] = (),
    rename: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
    layout: str | None = None,
) -> Converted:
    """Turn published pickles into ``items.csv`` and ``vectors.safetensors``, which the corpus ``features`` reads.

    Arrays whose names begin with a modality's become its vectors (``text_embed`` is ``text``), and usual names of
    columns become ours (``raw_text`` is ``text``, ``speakers`` is ``speaker``); others keep theirs. One-hot vectors of
    labels and speakers become numbers. Several files are one below the other, with the part of the split that their
    names end in (``..._train.pkl``); those of conversations are joined by conversation and place in it instead. A
    conversation that is named in several parts of a split is of the test part, else of the validation part.

    Args:
        files: Pickles; nothing that they name is run.
        output: Folder for the two files.
        names: Names of the members where a file is a tuple, with ``-`` for one to leave out: a list for each file, or
            one for all.
        rename: Names in the files to names to use instead, such as ``roberta1`` to ``text``.
        classes: Names of the labels where they are numbers from 0.
        layout: Name of a known arrangement, which says all that ``names``, ``rename`` and ``classes`` would:
            ``rigsl-iemocap`` or ``rigsl-meld``, of two files each. Vectors of text are then the four of RoBERTa side by
            side.

    Raises:
        CorpusError: If a file is damaged or does more than hold data, or its arrangement is not known.
    """
    if not files:
        raise CorpusError("no file to convert; name one or more pickles")
    if len(names) not in (0, 1, len(files)):
        raise CorpusError(f"{len(names)} lists of names for {len(files)} files; give one for each, or one for all")
    if layout is not None:
        if names or rename or classes:
            raise CorpusError(f"layout {layout!r} says what the members and classes are; leave names and classes out")
        return _arranged(files, Path(output), get_layout(layout))
    members = list(names) * len(files) if len(names) == 1 else list(names) or [()] * len(files)
    contents = [
        (Path(file), _named(Path(file), read_pickle(file), own)) for file, own in zip(files, members, strict=True)
    ]
    if all(_conversations(content) for _, content in contents):
        columns, left_out = _by_conversation({k: v for _, content in contents for k, v in content.items()})
    else:
        columns, left_out = _stacked(contents)
    return _write(Path(output), columns, left_out, rename or {}, classes)


def _arranged(files: Sequence[str | Path], output: Path, layout: Layout) -> Converted:
    """Files of a known layout."""
    contents = [(Path(file), read_pickle(file)) for file in files]
    named = [
        _named(path, content, names) for (path, content), names in zip(contents, layout.names(contents), strict=True)
    ]
    for (path, _), content in zip(contents, named, strict=True):
        if not _conversations(content):
            raise CorpusError(f"{path}: its members are not dictionaries of the same conversations; fetch it anew")
    columns, left_out = _by_conversation({name: member for content in named for name, member in content.items()})
    notes = layout.arrange(columns)
    made = _write(output, columns, left_out, {}, layout.classes)
    return replace(made, notes=(*notes, *layout.findings(made.table)))


def _named(path: Path, content: Any, names: Sequence[str]) -> Any:
    """A tuple (or list of members) as a dictionary with the names given."""
    if not isinstance(content, tuple) and not (isinstance(content, list) and names):
        return content
    if len(names) != len(content):
        told = f", not {len(names)}" if names else ""
        raise CorpusError(f"{path}: a tuple of {len(content)} members; give {len(content)} names{told}, - to leave out")
    return {name: member for name, member in zip(names, content, strict=True) if name != "-"}


def _conversations(content: Any) -> bool:
    """Whether there are dictionaries with the same keys throughout, each key a conversation."""
    if not isinstance(content, dict):
        return False
    inner = [value for value in content.values() if isinstance(value, dict)]
    lists = all(_is_sequence(item) for value in inner for item in value.values())
    if not inner or not lists or any(str(key).lower() in SPLITS for key in content):
        return False
    return all(set(value) == set(inner[0]) for value in inner)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _by_conversation(content: Mapping[str, Any]) -> tuple[dict[str, list[Any]], list[str]]:
    """A row per utterance: columns, and what was left out."""
    inner = {name: value for name, value in content.items() if isinstance(value, dict)}
    keys = list(dict.fromkeys(key for value in inner.values() for key in value))
    columns: dict[str, list[Any]] = {"dialogue": [], "position": []}
    lengths = {}
    for key in keys:
        counts = {len(value[key]) for value in inner.values() if key in value}
        lengths[key] = max(counts)
        if len(counts) != 1:
            raise CorpusError(
                f"conversation {key!r} has {sorted(counts)} utterances in different members; fetch it anew"
            )
        columns["dialogue"] += [str(key)] * lengths[key]
        columns["position"] += list(range(lengths[key]))
    for name, value in inner.items():
        columns[name] = [item for key in keys for item in (value[key] if key in value else [None] * lengths[key])]
    left_out = []
    parts: list[tuple[str, str, list[Any]]] = []
    for name, value in content.items():
        if isinstance(value, dict):
            continue
        part = _part_named(name)
        if part is None or not isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
            left_out.append(f"{name}: neither of conversations nor a part of a split")
        else:
            parts.append((name, part, list(value)))
    part_of: dict[Any, str] = {}
    for name, part, members in sorted(parts, key=lambda entry: _PARTS.index(entry[1])):
        both = sum(part_of.get(key, part) != part for key in members)
        if both and part == "test":  # validation is often named within training, but nothing may be within test
            left_out.append(f"{name}: {both} of its conversations are named in another part too; they are tested only")
        part_of.update(dict.fromkeys(members, part))
    if part_of:
        columns["split"] = [part_of.get(key, "") for key in keys for _ in range(lengths[key])]
    return columns, left_out


def _part_named(name: str) -> str | None:
    """The part of a split that a name tells of: ``trainVid``, ``valid_ids``, ``IEMOCAP_test``."""
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    return next((SPLITS[word] for word in reversed(words) if word in SPLITS), None)


def _stacked(contents: Sequence[tuple[Path, Any]]) -> tuple[dict[str, list[Any]], list[str]]:
    """A row per item, the files one below the other: columns, and what was left out."""
    frames, left_out = [], []
    for path, content in contents:
        parts: dict[str | None, Any] = {None: content}
        if isinstance(content, dict) and content and all(str(key).lower() in SPLITS for key in content):
            parts = {SPLITS[str(key).lower()]: value for key, value in content.items()}
        for part, value in parts.items():
            columns, rest = _columns(path, value)
            left_out += [f"{path.name}, {what}" for what in rest]
            part = part or _part_named(path.stem)
            if part is not None and "split" not in columns:
                columns["split"] = [part] * len(next(iter(columns.values())))
            frames.append(columns)
    every = dict.fromkeys(name for columns in frames for name in columns)
    return {
        name: [item for columns in frames for item in columns.get(name, [None] * len(next(iter(columns.values()))))]
        for name in every
    }, left_out


def _columns(path: Path, content: Any) -> tuple[dict[str, list[Any]], list[str]]:
    """Columns of a list of items, or of a dictionary of columns, and what was left out."""
    if isinstance(content, list) and content and all(isinstance(item, dict) for item in content):
        names = dict.fromkeys(str(name) for item in content for name in item)
        return {name: [item.get(name) for item in content] for name in names}, []
    if isinstance(content, dict) and content:
        sequences = {str(name): value for name, value in content.items() if _is_sequence(value)}
        lengths = [len(value) for value in sequences.values()]
        if lengths:
            length = max(lengths, key=lengths.count)
            rest = [f"{name}: not a sequence of {length} items" for name in map(str, content) if name not in sequences]
            rest += [f"{name}: {len(v)} items, not {length}" for name, v in sequences.items() if len(v) != length]
            return {name: list(value) for name, value in sequences.items() if len(value) == length}, rest
    raise CorpusError(
        f"{path}: neither a list of items, nor columns of the same length, nor sequences by conversation; its "
        "arrangement is not known"
    )


def _write(
    output: Path,
    columns: Mapping[str, list[Any]],
    left_out: list[str],
    rename: Mapping[str, str],
    classes: Sequence[str],
) -> Converted:
    """Tell vectors from cells, name them, and write both files."""
    unknown = sorted(set(rename) - set(columns))
    if unknown:
        raise CorpusError(f"nothing is named {unknown[0]!r}, to be renamed; there is {', '.join(columns)}")
    table: dict[str, list[Any]] = {}
    vectors: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        array = _vectors(values)
        given = rename.get(name)
        ours = given or _COLUMNS.get(name.lower(), name)
        if array is not None and ours in ("label", "speaker") and (hot := _one_hot(array)) is not None:
            _put(table, ours, hot, name)
        elif array is not None:
            _put(vectors, given or _modality(name, vectors), array, name)
        elif any(_is_sequence(value) for value in values):
            left_out.append(f"{name}: sequences of different lengths, or of several dimensions")
        else:
            _put(table, ours, [_cell(value) for value in values], name)
    if not vectors:
        raise CorpusError(f"no vectors among {', '.join(columns)}; there is nothing to learn from")
    if classes and "label" in table:
        table["label"] = [_class_name(value, classes) for value in table["label"]]
    frame = pd.DataFrame(table)
    if "text" in frame:
        frame["text"] = [mend_controls(str(cell)) for cell in frame["text"]]
    if "id" not in frame or frame["id"].duplicated().any():
        frame = frame.drop(columns="id", errors="ignore")
        known = "dialogue" in frame
        place = frame["dialogue"] + "_" + frame["position"].astype(str) if known else frame.index.astype(str)
        frame.insert(0, "id", place)
    output.mkdir(parents=True, exist_ok=True)
    write_csv(output / ITEMS, frame)
    save_file(vectors, output / VECTORS)
    return Converted(frame, vectors, tuple(left_out))


def _class_name(value: Any, classes: Sequence[str]) -> str:
    """The name of a class that is numbered; an item without label has none."""
    if value is None:
        return ""
    number = str(value)
    if not number.isdigit() or int(number) >= len(classes):
        raise CorpusError(f"label {number!r} is not a number from 0 to {len(classes) - 1}; correct classes")
    return classes[int(number)]


def _put(into: dict[str, Any], name: str, values: Any, source: str) -> None:
    if name in into:
        raise CorpusError(f"two members are {name!r}, the second being {source!r}; rename one of them")
    into[name] = values


def _modality(name: str, taken: Mapping[str, np.ndarray]) -> str:
    """The modality that an array's name begins with, or the name where it begins with none or another array has it."""
    word = re.match(r"[a-z]*", name.lower())
    modality = _VECTORS.get(word[0] if word else "", name)
    return name if modality in taken else modality


def _vectors(values: Sequence[Any]) -> np.ndarray | None:
    """Numbers of the same length for every item, float32 ``[items, dims]``, NaN where an item has none; else None."""
    known = [np.asarray(value) for value in values if value is not None and _is_sequence(value)]
    if not known or any(value is not None and not _is_sequence(value) for value in values):
        return None
    if any(array.ndim != 1 or array.dtype.kind not in "fiub" or array.shape != known[0].shape for array in known):
        return None
    result = np.full((len(values), len(known[0])), np.nan, dtype=np.float32)
    result[[value is not None for value in values]] = np.stack(known)
    return result


def _one_hot(array: np.ndarray) -> list[str] | None:
    """Places of the ones, where every row has a single one among zeros."""
    if not np.isin(array, (0, 1)).all() or not (array.sum(axis=1) == 1).all():
        return None
    return [str(place) for place in array.argmax(axis=1)]


def _cell(value: Any) -> Any:
    """A single value as a cell of a table."""
    return value.item() if isinstance(value, (np.ndarray, np.generic)) else value
