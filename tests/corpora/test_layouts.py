"""The features that RIGSL was trained on: pickles in the published arrangement, with few and short vectors."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from graphophone import corpora
from graphophone.cli import main
from graphophone.corpora.base import CorpusError
from graphophone.corpora.layouts import LAYOUTS, OTHER_LABELS
from graphophone.corpora.published import convert
from graphophone.evaluation.protocols import create_protocol, dialogues_divided

TALKS = {
    "Ses01F_impro01": [0, 1, 2],
    "Ses01M_script01_1": [3, 4],
    "Ses02F_impro01": [5, 0],
    "Ses05M_impro02": [2, 1, 5],
}


def write(folder: Path, first: tuple[Any, ...], second: tuple[Any, ...]) -> list[Path]:
    paths = [folder / "features_raw.pkl", folder / "features_roberta.pkl"]
    for path, content in zip(paths, (first, second), strict=True):
        path.write_bytes(pickle.dumps(content, protocol=2))
    return paths


def rows(talks: dict[Any, list[int]], make: Callable[[int], Any]) -> dict[Any, list[Any]]:
    """Something for every turn, counted through all conversations."""
    ends = np.cumsum([0, *map(len, talks.values())]).tolist()
    return {key: [make(first + n) for n in range(len(talks[key]))] for key, first in zip(talks, ends, strict=False)}


def roberta(talks: dict[Any, list[int]]) -> list[dict[Any, list[np.ndarray]]]:
    def numbers(which: int, n: int) -> np.ndarray:
        return np.full(2, 10 * n + which, dtype=np.float32)

    return [rows(talks, partial(numbers, which)) for which in range(4)]


def iemocap(
    folder: Path, *, valid: tuple[str, ...] = ("Ses02F_impro01",), labels: dict[str, list[int]] = TALKS
) -> list[Path]:
    train, test = list(TALKS)[:3], list(TALKS)[3:]
    genders = rows(TALKS, lambda n: "MF"[n % 2])
    said = rows(TALKS, lambda n: f"turn {n}")
    ids = {key: [f"{key}_{'MF'[n % 2]}{n:03d}" for n in range(len(value))] for key, value in TALKS.items()}
    audio = rows(TALKS, lambda n: np.full(3, n, dtype=np.float64))
    visual = rows(TALKS, lambda n: np.full(5, -n, dtype=np.float64))
    unused = rows(TALKS, lambda n: np.zeros(2))
    return write(
        folder,
        (ids, genders, TALKS, unused, audio, visual, said, set(train), set(test)),
        (genders, labels, *roberta(TALKS), said, train, test, list(valid)),
    )


def test_iemocap_in_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = iemocap(tmp_path)
    output = tmp_path / "out"
    arguments = ["corpora", "convert", *map(str, files[::-1]), "--layout", "rigsl-iemocap", "--output", str(output)]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "10 items with audio of 3 numbers, video of 5 numbers, text of 8 numbers" in told
    assert "outside the test part 7 utterances: happy 2, sad 1, neutral 1, angry 1, excited 1, frustrated 1" in told
    assert "classes: 2, 1, 1, 1, 1, 1, but 504, 839, 1324, 933, 742, 1468 are published" in told
    assert "dialogues outside the test part and in it: 3, 1, but 120, 31 are published" in told
    assert "1 dialogues choose the model" in told
    assert "test part: session 5; none of its speakers is in training" in told
    found = corpora.load("features", output)
    table = found.table
    assert table["id"].tolist()[:2] == ["Ses01F_impro01_M000", "Ses01F_impro01_F001"]
    assert table["dialogue"].tolist() == [key for key, labels in TALKS.items() for _ in labels]
    assert table["position"].tolist() == [0, 1, 2, 0, 1, 0, 1, 0, 1, 2]
    assert table["speaker"].tolist()[:4] == ["Ses01M", "Ses01F", "Ses01M", "Ses01F"]
    assert table["speaker"].tolist()[-1] == "Ses05F"
    assert table["session"].tolist() == [1] * 5 + [2] * 2 + [5] * 3
    assert table["split"].tolist() == ["train"] * 5 + ["validation"] * 2 + ["test"] * 3
    assert table["label"].tolist()[:6] == ["happy", "sad", "neutral", "angry", "excited", "frustrated"]
    assert table["text"].tolist()[9] == "turn 9"
    assert OTHER_LABELS not in table
    assert found.given is not None
    assert list(found.given.parts) == ["text", "audio", "video"]
    assert found.given.part("text")[3].tolist() == [30, 30, 31, 31, 32, 32, 33, 33]
    assert found.given.part("audio")[3].tolist() == [3, 3, 3]
    assert found.given.part("video")[3].tolist() == [-3] * 5


def test_parts_share_no_conversation(tmp_path: Path) -> None:
    made = convert(
        iemocap(tmp_path, valid=("Ses02F_impro01", "Ses05M_impro02")), tmp_path / "out", layout="rigsl-iemocap"
    )
    assert "testVid: 1 of its conversations are named in another part too; they are tested only" in made.left_out
    assert made.table.groupby("dialogue")["split"].first().tolist() == ["train", "train", "validation", "test"]


def test_without_validation_ids_the_protocol_holds_dialogues_out(tmp_path: Path) -> None:
    made = convert(iemocap(tmp_path, valid=()), tmp_path / "out", layout="rigsl-iemocap")
    assert any("no validation part" in note and "validation_by: dialogue" in note for note in made.notes)
    # So few turns cannot hold every class in every part.
    made.table.assign(label="happy").to_csv(tmp_path / "out" / "items.csv", index=False)
    found = corpora.load("features", tmp_path / "out")
    protocol = create_protocol("official", validation=0.3, validation_by="dialogue", whole_dialogues=True)
    (split,) = protocol.splits(found)
    assert dialogues_divided(found, split) == ()
    assert len(split.validation) > 0


def test_labels_that_differ_are_told(tmp_path: Path) -> None:
    other = {**TALKS, "Ses02F_impro01": [5, 1]}
    made = convert(iemocap(tmp_path, labels=other), tmp_path / "out", layout="rigsl-iemocap")
    assert made.notes[0] == "1 utterances have different labels in the two files; those of the first are taken"
    assert made.table["label"].tolist()[6] == "happy"


def test_meld_with_the_published_counts(tmp_path: Path) -> None:
    """Made-up conversations with as many utterances of each class, and as many conversations, as are published."""
    layout = LAYOUTS["rigsl-meld"]
    train = np.repeat(np.arange(7), layout.counts)
    np.random.default_rng(0).shuffle(train)
    talks = dict(enumerate(part.tolist() for part in np.array_split(train, layout.dialogues[0])))
    talks |= {2000 + n: [0, 6] for n in range(layout.dialogues[1])}
    first, last = list(talks)[: layout.dialogues[0]], list(talks)[layout.dialogues[0] :]
    numbers = {key: list(range(len(value))) for key, value in talks.items()}
    speakers = {key: [np.eye(9)[n % 9] for n in value] for key, value in numbers.items()}
    small = rows(talks, lambda n: np.ones(2))
    said = rows(talks, str)
    files = write(
        tmp_path,
        (numbers, speakers, talks, small, small, small, said, first, last, 0),
        (speakers, talks, talks, *roberta(talks), said, first, last, first[1000:]),
    )
    made = convert(files, tmp_path / "out", layout="rigsl-meld")
    assert f"classes: {', '.join(map(str, layout.counts))}, as published" in made.notes
    assert "dialogues outside the test part and in it: 1152, 280, as published" in made.notes
    assert "152 dialogues choose the model (the published code has none: it chose by the test part)" in made.notes
    frame = pd.read_csv(tmp_path / "out" / "items.csv", dtype=str)
    assert frame["id"].tolist()[:2] == ["0_0", "0_1"]
    assert frame["speaker"].tolist()[:3] == ["0", "1", "2"]
    assert frame["label"].value_counts()["joy"] == 1906
    assert made.vectors["text"].shape == (11098 + 560, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files[:1], "the layout is of two tuples, one of 9 members and one of 10 members; give both"),
        (lambda files: [files[0], files[0]], "a tuple of 9 members; the layout is of two tuples"),
        (lambda files: [*files, files[1]], "a tuple of 10 members; the layout is of two tuples"),
    ],
)
def test_other_files_are_refused_in_one_line(
    tmp_path: Path, change: Callable[[list[Path]], list[Path]], message: str
) -> None:
    with pytest.raises(CorpusError, match=message) as caught:
        convert(change(iemocap(tmp_path)), tmp_path / "out", layout="rigsl-iemocap")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_a_layout_says_is_not_said_again(tmp_path: Path) -> None:
    files = iemocap(tmp_path)
    with pytest.raises(CorpusError, match="leave names and classes out"):
        convert(files, tmp_path / "out", layout="rigsl-iemocap", classes=["a"])
    with pytest.raises(CorpusError, match=r"unknown layout 'rigsl-mled'\. Did you mean 'rigsl-meld'\?"):
        convert(files, tmp_path / "out", layout="rigsl-mled")
    files[0].write_bytes(pickle.dumps(tuple(range(9)), protocol=2))
    with pytest.raises(CorpusError, match="its members are not dictionaries of the same conversations"):
        convert(files, tmp_path / "out", layout="rigsl-iemocap")
