"""EmoryNLP: scenes of a television series with the emotion of every utterance (Zahiri and Choi, 2018)."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from graphophone.corpora.base import Corpus, CorpusError, Problem, as_name, corpus_folder, read_text
from graphophone.corpora.table import read_table
from graphophone.corpora.transcripts import mend_controls

EMOTIONS = ("neutral", "joyful", "peaceful", "powerful", "scared", "mad", "sad")
PARTS = {"trn": "train", "dev": "validation", "tst": "test"}
"""How the JSON files call the parts of the published split."""
_TABLES = {"trn": "train", "dev": "dev", "tst": "test"}  # how the tables call them
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Scene_ID", "Utterance_ID", "Season", "Episode")


def load(root: Path) -> Corpus:
    """EmoryNLP: scenes between several people, with transcripts and seven emotions.

    ``emotion-detection-trn.json``, ``-dev.json`` and ``-tst.json`` as published, or the tables made of them,
    ``emorynlp_train_final.csv``, ``_dev_`` and ``_test_``; ``split`` is theirs. There is no sound. Ids are
    ``s01_e02_c03_u004`` (season, episode, scene, utterance). Columns besides the usual:

    ``dialogue``, ``position``
        The scene, and the place of the utterance in it: from 0 in JSON, the owners' number in the tables.
    ``speaker``
        As the owners write it, several with ``, `` between; those of the main cast are in all parts.
    ``episode``
        Such as ``s01_e02``.

    Raises:
        CorpusError: If a file is missing or damaged.
    """
    folder = corpus_folder(root, "emorynlp")
    as_json = {part: folder / f"emotion-detection-{part}.json" for part in PARTS}
    as_table = {part: folder / f"emorynlp_{name}_final.csv" for part, name in _TABLES.items()}
    paths = next((kind for kind in (as_json, as_table) if any(map(Path.is_file, kind.values()))), as_json)
    records: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for part, path in paths.items():
        if not path.is_file():
            raise CorpusError(f"corpus 'emorynlp': {path} is not there; give the folder of the three files as root")
        turns = _of_json(path) if paths is as_json else _of_table(path, problems)
        records += [{**turn, "split": PARTS[part]} for turn in turns]
    table = pd.DataFrame(records)
    table["text"] = [mend_controls(text) for text in table["text"]]
    table["label"] = table["label"].str.strip().str.lower()
    return Corpus.from_table(
        table,
        name="emorynlp",
        classes=EMOTIONS,
        rows=None,
        problems=problems,
        languages=("en",),
        licence="Apache-2.0",
        url="https://github.com/emorynlp/emotion-detection",
        citation=(
            "S. M. Zahiri, J. D. Choi: Emotion detection on TV show transcripts with sequence-based convolutional "
            "neural networks. AAAI Workshops 2018, 44-52. arXiv:1708.04299"
        ),
    )


def _of_json(path: Path) -> Iterator[dict[str, Any]]:
    """Utterances of a file of episodes, scenes and utterances."""
    try:
        content = json.loads(read_text(path))
        for episode in content["episodes"]:
            for scene in episode["scenes"]:
                for position, turn in enumerate(scene["utterances"]):
                    yield {
                        "id": as_name(turn["utterance_id"]),
                        "text": as_name(turn["transcript"]),
                        "label": as_name(turn.get("emotion")),
                        "speaker": ", ".join(map(as_name, turn["speakers"])),
                        "dialogue": as_name(scene["scene_id"]),
                        "position": position,
                        "episode": as_name(episode["episode_id"]),
                    }
    except (ValueError, KeyError, TypeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise CorpusError(f"{path}: not episodes with scenes of utterances ({what}); fetch it anew") from error


def _of_table(path: Path, problems: list[Problem]) -> list[dict[str, Any]]:
    """Utterances of a table; records that do not fit its header are added to ``problems``."""
    frame, rows, wrong = read_table(path, ",")
    missing = [column for column in _COLUMNS if column not in frame]
    if missing:
        raise CorpusError(f"{path}: no column {missing[0]!r}; it needs {', '.join(_COLUMNS)}")
    problems += [Problem(f"{path.name}, {problem.item}", None, problem.reason) for problem in wrong]
    records = []
    for row, turn in zip(rows, frame[list(_COLUMNS)].to_dict(orient="records"), strict=True):
        try:
            season, episode, scene, number = (
                int(turn[column]) for column in ("Season", "Episode", "Scene_ID", "Utterance_ID")
            )
        except ValueError as error:
            raise CorpusError(f"{path}, row {row}: a number is wanted ({error}); correct it") from error
        where = f"s{season:02d}_e{episode:02d}"
        records.append(
            {
                "id": f"{where}_c{scene:02d}_u{number:03d}",
                "text": as_name(turn["Utterance"]),
                "label": as_name(turn["Emotion"]),
                "speaker": _speakers(as_name(turn["Speaker"])),
                "dialogue": f"{where}_c{scene:02d}",
                "position": number,
                "episode": where,
            }
        )
    return records


def _speakers(cell: str) -> str:
    """Names in a cell like ``['Monica Geller']``, with commas between; what is no such list is one name."""
    try:
        names = ast.literal_eval(cell)
    except (ValueError, SyntaxError):
        return cell
    return ", ".join(map(as_name, names)) if isinstance(names, (list, tuple)) else cell
