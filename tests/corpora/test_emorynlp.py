"""EmoryNLP: a few scenes as they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.emorynlp import EMOTIONS

TURNS = [
    ("Monica Geller", "There\x92s nothing", "Neutral"),
    ("Joey Tribbiani", "C'mon", "Joyful"),
    ("Monica Geller", 'Stop, "you"', "Mad"),
]


def episodes(season: int, episode: int, turns: list[tuple[str, str, str]]) -> dict[str, Any]:
    scene = f"s{season:02d}_e{episode:02d}_c01"
    said = [
        {
            "utterance_id": f"{scene}_u{number:03d}",
            "speakers": who.split(", "),
            "transcript": text,
            "tokens": [],
            "emotion": emotion,
        }
        for number, (who, text, emotion) in enumerate(turns, start=1)
    ]
    place = {"episode_id": scene[:7], "scenes": [{"scene_id": scene, "utterances": said}]}
    return {"season_id": scene[:3], "episodes": [place]}


def put(root: Path, train: list[tuple[str, str, str]]) -> Path:
    for part, content in {
        "trn": episodes(1, 1, train),
        "dev": episodes(1, 2, [("Ross Geller", "So", "Sad"), ("All, Ross Geller", "Wow", "Peaceful")]),
        "tst": episodes(2, 1, [("Phoebe Buffay", "Help", "Scared"), ("Ross Geller", "Yes", "Powerful")]),
    }.items():
        (root / f"emotion-detection-{part}.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def test_scenes(tmp_path: Path) -> None:
    found = corpora.load("emorynlp", put(tmp_path, TURNS))
    assert (found.classes, found.problems) == (EMOTIONS, ())
    table = found.table
    assert table["id"].tolist()[:3] == ["s01_e01_c01_u001", "s01_e01_c01_u002", "s01_e01_c01_u003"]
    assert table["dialogue"].tolist() == ["s01_e01_c01"] * 3 + ["s01_e02_c01"] * 2 + ["s02_e01_c01"] * 2
    assert table["position"].tolist() == [0, 1, 2, 0, 1, 0, 1]
    assert table["label"].tolist() == ["neutral", "joyful", "mad", "sad", "peaceful", "scared", "powerful"]
    assert table["speaker"].tolist()[2:5] == ["Monica Geller", "Ross Geller", "All, Ross Geller"]
    assert table["text"].tolist()[0] == "There\u2019s nothing"
    assert table["split"].tolist() == ["train"] * 3 + ["validation"] * 2 + ["test"] * 2
    assert table["episode"].tolist()[-1] == "s02_e01"


def test_tables_hold_the_same(tmp_path: Path) -> None:
    header = "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode,SrNo\n"
    for name, season, episode in (("train", 1, 1), ("dev", 1, 2), ("test", 2, 1)):
        rows = [
            f'"{text.replace(chr(34), chr(34) * 2)}","[\'{who}\']",{emotion},1,{number},{season},{episode},7\n'
            for number, (who, text, emotion) in enumerate(TURNS, start=1)
        ]
        extra = "too,few\n" if name == "dev" else ""
        (tmp_path / f"emorynlp_{name}_final.csv").write_text(header + "".join(rows) + extra, encoding="utf-8")
    found = corpora.load("emorynlp", tmp_path)
    (tmp_path / "json").mkdir()
    same = corpora.load("emorynlp", put(tmp_path / "json", TURNS))
    columns = ["id", "text", "label", "speaker", "dialogue", "episode", "split"]
    assert found.table[:3][columns].equals(same.table[:3][columns])
    assert found.table["position"].tolist() == [1, 2, 3] * 3
    assert [problem.item for problem in found.problems] == ["emorynlp_dev_final.csv, row 5"]
    (tmp_path / "emorynlp_test_final.csv").write_text(header + "a,b,Mad,one,1,1,1,1\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="row 2: a number is wanted"):
        corpora.load("emorynlp", tmp_path)
    (tmp_path / "emorynlp_test_final.csv").write_text("Utterance,Speaker\na,b\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="no column 'Emotion'"):
        corpora.load("emorynlp", tmp_path)


def test_turns_without_a_known_emotion_are_left_out(tmp_path: Path) -> None:
    found = corpora.load("emorynlp", put(tmp_path, [*TURNS, ("Ross Geller", "Hm", ""), ("Ross Geller", "Ha", "Glad")]))
    assert len(found) == 7
    assert [problem.reason.split(".")[0] for problem in found.problems] == ["no label", "unknown label 'glad'"]


@pytest.mark.parametrize("content", ["{", "[]", '{"episodes": [{"scenes": 1}]}', '{"seasons": []}'])
def test_damaged_and_missing_files(tmp_path: Path, content: str) -> None:
    with pytest.raises(CorpusError, match=r"emotion-detection-trn\.json is not there; give the folder of the three"):
        corpora.load("emorynlp", tmp_path)
    (put(tmp_path, TURNS) / "emotion-detection-dev.json").write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match="not episodes with scenes of utterances") as caught:
        corpora.load("emorynlp", tmp_path)
    assert "\n" not in str(caught.value)
