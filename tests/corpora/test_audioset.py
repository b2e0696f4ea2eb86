"""AudioSet, in small, and as many rows as the whole."""

from __future__ import annotations

import random
import resource
import string
import time
from pathlib import Path

import numpy as np
import pytest

from graphophone import corpora
from graphophone.corpora import CorpusError
from graphophone.corpora.audioset import TABLES, load
from graphophone.evaluation import create_protocol

TAGS = ['0,/m/09x0r,"Speech"', '1,/m/05zppz,"Male speech, man speaking"', '2,/m/0bt9lr,"Dog"', '3,/t/dd00088,"Gush"']
COMMENTS = [
    "# Segments csv created Sun Mar  5 10:54:31 2017",
    "# num_ytids=3",
    "# YTID, start_seconds, end_seconds, labels",
]
ROWS = {
    "balanced_train": [
        '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"',
        '-_aaaaaaaaa, 0.000, 10.000, "/m/0bt9lr"',
        'Yaaaaaaaaa_, 10.000, 20.000, "/m/09x0r,/m/05zppz"',
    ],
    "unbalanced_train": ['uuuuuuuuuu1, 1.000, 11.000, "/m/0bt9lr"', 'uuuuuuuuuu2, 1.500, 9.250, "/m/0bt9lr,/m/09x0r"'],
    "eval": ['eeeeeeeeeee, 30.000, 40.000, "/m/05zppz"'],
}


def put(root: Path, *sounds: str, rows: dict[str, list[str]] = ROWS, tags: list[str] = TAGS) -> Path:
    root.mkdir(exist_ok=True)
    (root / "class_labels_indices.csv").write_text("\n".join(["index,mid,display_name", *tags]) + "\n", "utf-8")
    for name, lines in rows.items():
        (root / TABLES[name]).write_text("\n".join([*COMMENTS, *lines]) + "\n", "utf-8")
    for sound in sounds:
        (root / sound).parent.mkdir(parents=True, exist_ok=True)
        (root / sound).write_bytes(b"sound")
    return root


BALANCED = ("--PJHxphWEs.wav", "-_aaaaaaaaa.wav", "Yaaaaaaaaa_.wav", "eeeeeeeeeee.wav")


def test_segments_of_one_class_of_a_few(tmp_path: Path) -> None:
    found = corpora.load("audioset", put(tmp_path, *BALANCED), classes=["Male speech, man speaking", "Dog"])
    assert found.classes == ("Male speech, man speaking", "Dog")
    assert found.table["id"].tolist() == ["-_aaaaaaaaa", "Yaaaaaaaaa_", "eeeeeeeeeee"]
    assert found.targets.tolist() == [1, 0, 0]
    found = corpora.load("audioset", tmp_path, classes=["Male speech, man speaking", "Speech"])
    assert found.table["id"].tolist() == ["--PJHxphWEs", "eeeeeeeeeee"], "one segment has both, and is left out"


@pytest.mark.parametrize(
    ("classes", "words"), [(["Speach", "Dog"], "Speech"), (["Dog", "Dog"], "none twice"), (["Dog"], "two names")]
)
def test_classes_that_are_none(tmp_path: Path, classes: list[str], words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        corpora.load("audioset", put(tmp_path, *BALANCED), classes=classes)


def test_the_balanced_set(tmp_path: Path) -> None:
    found = corpora.load("audioset", put(tmp_path, *BALANCED))
    assert found.problems == ()
    assert found.classes == ("Speech", "Male speech, man speaking", "Dog", "Gush")
    assert found.targets.tolist() == [[1, 0, 0, 1], [0, 0, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0]]
    table = found.table
    assert table["id"].tolist() == ["--PJHxphWEs", "-_aaaaaaaaa", "Yaaaaaaaaa_", "eeeeeeeeeee"]
    assert table["split"].tolist() == ["train", "train", "train", "test"]
    assert table["set"].tolist() == ["balanced_train"] * 3 + ["eval"]
    assert table["row"].tolist() == [4, 5, 6, 4], "lines of the files, comments counted"
    assert table["video_start"].tolist() == [30.0, 0.0, 10.0, 30.0]
    assert table["audio"][0] == str(tmp_path / "--PJHxphWEs.wav")
    assert "start" not in table, "a file is the segment: its place in the video is not a place in the file"


def test_all_of_it_by_option(tmp_path: Path) -> None:
    found = load(put(tmp_path, *BALANCED, "uuuuuuuuuu1.wav", "uuuuuuuuuu2.wav"), train="full")
    assert found.table["set"].value_counts().to_dict() == {"balanced_train": 3, "unbalanced_train": 2, "eval": 1}
    assert found.summary()["splits"] == {"test": 1, "train": 5}
    with pytest.raises(CorpusError, match="train='half' is not one of balanced, full"):
        load(tmp_path, train="half")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "names",
    [
        ("--PJHxphWEs.flac", "-_aaaaaaaaa.flac", "Yaaaaaaaaa_.flac", "eeeeeeeeeee.flac"),
        ("Y--PJHxphWEs.wav", "Y-_aaaaaaaaa.wav", "YYaaaaaaaaa_.wav", "Yeeeeeeeeeee.wav"),
        ("--PJHxphWEs_30.000_40.000.ogg", "-_aaaaaaaaa_0_10.ogg", "Yaaaaaaaaa__10000_20000.ogg", "eeeeeeeeeee_30.ogg"),
        (
            *("balanced_train_segments/Y--PJHxphWEs_30_40.wav", "balanced_train_segments/Y-_aaaaaaaaa_0_10.wav"),
            *("balanced_train_segments/YYaaaaaaaaa__10_20.wav", "eval_segments/Yeeeeeeeeeee_30_40.wav"),
        ),
        ("a/--PJHxphWEs.wav", "b/c/Y-_aaaaaaaaa.wav", "Yaaaaaaaaa__10.wav", "d/eeeeeeeeeee_30_40.mp3"),
    ],
)
def test_names_as_download_scripts_give_them(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = load(put(tmp_path, *names, "Ybbbbbbbbbb_.wav", "unrelated.wav", ".hidden/eeeeeeeeeee.aaa"))
    assert found.problems == ()
    assert found.table["audio"].tolist() == [str(tmp_path / name) for name in names]


def test_the_sound_may_be_elsewhere_behind_links(tmp_path: Path) -> None:
    put(tmp_path / "disk", *BALANCED)
    put(tmp_path / "tables")
    found = load(tmp_path / "tables", audio=tmp_path / "disk")
    assert len(found) == 4
    (tmp_path / "tables/sound").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "disk/round").symlink_to(tmp_path / "tables", target_is_directory=True)
    linked = load(tmp_path / "tables")
    assert linked.table["audio"][0] == str(tmp_path / "tables/sound/--PJHxphWEs.wav")
    with pytest.raises(CorpusError, match=r"corpus 'audioset': .*nowhere does not exist"):
        load(tmp_path / "tables", audio=tmp_path / "nowhere")


def test_missing_files_are_counted_first_and_named_last(tmp_path: Path) -> None:
    rows = {**ROWS, "eval": [*ROWS["eval"], 'ggggggggggg, 0.000, 10.000, "/m/unknown"']}
    found = load(put(tmp_path, *BALANCED[1:], "ggggggggggg.wav", rows=rows), train="full")
    assert len(found) == 3
    assert [(str(problem), problem.severity) for problem in found.problems] == [
        (
            "audioset: no file for 1 of 3 (balanced_train), 2 of 2 (unbalanced_train), 0 of 2 (eval); they are left "
            "out and listed last",
            "warning",
        ),
        (
            "row 5, ggggggggggg: unknown label '/m/unknown'. Known: Speech, Male speech, man speaking, Dog, Gush",
            "error",
        ),
        (f"row 4, --PJHxphWEs: no file named by its video below {tmp_path}", "error"),
        (f"row 4, uuuuuuuuuu1: no file named by its video below {tmp_path}", "error"),
        (f"row 5, uuuuuuuuuu2: no file named by its video below {tmp_path}", "error"),
    ]


def test_names_of_tags_are_told_apart_by_their_codes(tmp_path: Path) -> None:
    found = load(put(tmp_path, *BALANCED, tags=[*reversed(TAGS[:3]), '3,/t/dd00088,"Dog"']))
    assert found.classes == ("Speech", "Male speech, man speaking", "Dog (/m/0bt9lr)", "Dog (/t/dd00088)")


def test_a_wrong_folder_or_table_is_one_line(tmp_path: Path) -> None:
    put(tmp_path)
    with pytest.raises(
        CorpusError, match=r"none of 4 segments has a file named by its video \(such as --PJHxphWEs\.wav"
    ):
        load(tmp_path)
    put(tmp_path, *BALANCED)
    (tmp_path / TABLES["unbalanced_train"]).unlink()
    assert len(load(tmp_path)) == 4
    with pytest.raises(CorpusError, match=r"there is no unbalanced_train_segments\.csv below"):
        load(tmp_path, train="full")
    eval_table = tmp_path / TABLES["eval"]
    for content, match in (
        ("a, 1, 2, /m/1, /m/2, 3\nb, 1, 2, 3, 4, 5, 6, 7\n", "Error tokenizing data.*; download it again"),
        ("# nothing\n", "no segments; download it again"),
        ("", "; download it again"),
    ):
        eval_table.write_text(content, "utf-8")
        with pytest.raises(CorpusError, match=match) as error:
            load(tmp_path)
        assert "\n" not in str(error.value)
    put(tmp_path, tags=[*TAGS, '3,/m/1,"Again"'])
    with pytest.raises(CorpusError, match="not one line with index, mid, display_name for each tag"):
        load(tmp_path)


def synthetic(root: Path, segments: dict[str, int], share: float, seed: int = 0) -> tuple[Path, int]:
    """Tables of so many segments with the published 527 tags' number, and files for a share of them."""
    draw = random.Random(seed)
    letters = string.ascii_letters + string.digits + "-_"
    codes = [f"/m/{number:05x}" for number in range(527)]
    put(root, rows={}, tags=[f'{number},{code},"Tag {number}"' for number, code in enumerate(codes)])
    there = 0
    for name, count in segments.items():
        lines = list(COMMENTS)
        (root / name).mkdir()
        for _ in range(count):
            video = "".join(draw.choices(letters, k=11))
            mids = ",".join(draw.sample(codes, draw.choice((1, 1, 2, 3))))
            lines.append(f'{video}, 30.000, 40.000, "{mids}"')
            if draw.random() < share:
                (root / name / f"Y{video}.wav").touch()
                there += 1
        (root / TABLES[name]).write_text("\n".join(lines) + "\n", "utf-8")
    return root, there


def test_a_validation_part_is_held_out_of_training_and_covers_every_tag(tmp_path: Path) -> None:
    root, there = synthetic(tmp_path, {"balanced_train": 5000, "eval": 500}, share=0.8)
    found = load(root)
    assert len(found) == there
    (split,) = create_protocol("official").splits(found, seed=3)
    table, counts = found.table, found.memberships
    assert set(table["set"].iloc[split.test]) == {"eval"}
    assert set(table["set"].iloc[[*split.train, *split.validation]]) == {"balanced_train"}
    assert len(split.validation) == pytest.approx(0.1 * (len(split.train) + len(split.validation)), rel=0.03)
    total = counts[[*split.train, *split.validation]].sum(axis=0)
    held = counts[split.validation].sum(axis=0)
    assert held.min() >= 1
    error = np.abs(held - 0.1 * total)
    assert error.mean() < 0.4, "of about 14 items per tag: one held-out item is as near as it gets"
    assert error.max() < 4
    assert not any("validation" in note or "train" in note for note in split.notes)
    assert np.array_equal(create_protocol("official").splits(found, seed=3)[0].validation, split.validation)
    assert not np.array_equal(create_protocol("official").splits(found, seed=4)[0].validation, split.validation)


@pytest.mark.slow
def test_two_million_segments_take_a_minute_and_two_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, _ = synthetic(tmp_path, {"balanced_train": 22_000, "unbalanced_train": 2_000_000, "eval": 20_000}, share=0)
    videos = [
        line[:11]
        for name in TABLES.values()
        for line in (root / name).read_text("utf-8").splitlines()
        if not line.startswith("#")
    ]
    there = [f"Y{video}.wav" for number, video in enumerate(videos) if number % 5]
    walk = corpora.audioset.walk
    monkeypatch.setattr(  # two million files would take longer to make than all else
        "graphophone.corpora.audioset.walk", lambda folder: [*walk(folder), (f"{root}/sound", there)]
    )
    begin = time.process_time()
    found = load(root, train="full")
    assert time.process_time() - begin < 60
    assert len(found) == len(there)
    assert len(found.problems) == len(videos) - len(there) + 1
    begin = time.process_time()
    (split,) = create_protocol("official").splits(found)
    assert time.process_time() - begin < 60
    assert found.memberships[split.validation].sum(axis=0).min() >= 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3e6, "kilobytes, with the tables made here"
