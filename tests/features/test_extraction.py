"""Worker processes: equal results, crashes, interrupts, kills."""

import os
import signal as signals
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from graphophone.corpora.base import Corpus
from graphophone.features import Extractor, FeatureCache, FeatureError, FeaturePipeline, create_extractor, extraction
from graphophone.features.extraction import Item, chunks, sensible_workers

MakeCorpus = Callable[..., Corpus]


@pytest.fixture
def pipeline() -> FeaturePipeline:
    return FeaturePipeline(create_extractor("fbank", num_mel_bins=8))


@pytest.mark.parametrize("cached", [True, False])
def test_processes_give_what_one_process_gives(
    cached: bool, cache: FeatureCache, make_corpus: MakeCorpus, pipeline: FeaturePipeline
) -> None:
    corpus = make_corpus([0.3 + 0.05 * i for i in range(12)])
    Path(corpus.table["audio"][5]).unlink()
    alone = pipeline.extract(corpus, cache=None, workers=1)
    features = pipeline.extract(corpus, cache=cache if cached else None, workers=2)
    assert features.ids == alone.ids
    assert features.failures == alone.failures
    assert len(features.failures) == 1
    for a, b in zip(features, alone, strict=True):
        np.testing.assert_array_equal(a, b)


def make_extractor() -> Extractor:
    """Made here so that it is sent to the workers by value, as one written in a user's script is."""

    class Odd(Extractor):
        """Length and peak; does as the first sample says."""

        name = "odd"
        level = "frame"
        hop = 0.01
        columns = ("length", "peak")
        config: dict[str, Any] = {}  # noqa: RUF012

        def _extract(self, signal: np.ndarray) -> np.ndarray:
            order = round(float(signal[0]) * 10)
            if order == 8:
                os._exit(3)
            if order == 7:
                raise RuntimeError("cannot\ndo this one")
            if order == 6:
                return np.full((1, 2), np.nan)
            return np.array([[len(signal), np.abs(signal).max()]])

    return Odd()


def order(corpus: Corpus, row: int, number: float) -> None:
    import soundfile as sf

    path = corpus.table["audio"][row]
    signal, rate = sf.read(path)
    signal[0] = number / 10
    sf.write(path, signal, rate)


def test_a_dying_worker_costs_one_recording(cache: FeatureCache, make_corpus: MakeCorpus) -> None:
    corpus = make_corpus([0.2 + 0.01 * i for i in range(30)])
    for row, number in ((0, 8), (17, 8), (3, 7), (4, 6)):
        order(corpus, row, number)
    pipeline = FeaturePipeline(make_extractor())
    features = pipeline.extract(corpus, cache=cache, workers=2)
    reasons = {problem.item: problem.reason for problem in features.failures}
    assert sorted(reasons) == ["item-0", "item-17", "item-3", "item-4"]
    assert "the process died" in reasons["item-0"]
    assert corpus.table["audio"][17] in reasons["item-17"]
    assert reasons["item-3"].endswith("RuntimeError: cannot do this one")
    assert "odd: not a finite number" in reasons["item-4"]
    assert len(features) == 26
    lengths = [round((0.2 + 0.01 * i) * 16000) for i in range(30)]
    assert [array[0, 0] for array in features] == [lengths[row] for row in features.rows]


def test_workers_that_all_die_end_the_call(make_corpus: MakeCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "_HOPELESS", 2)
    corpus = make_corpus([0.1] * 6)
    for row in range(6):
        order(corpus, row, 8)
    with pytest.raises(FeatureError, match="odd: every worker process died; try workers=1"):
        FeaturePipeline(make_extractor()).extract(corpus, cache=None, workers=2)


def test_an_extractor_that_cannot_be_sent_is_an_error(make_corpus: MakeCorpus) -> None:
    extractor = make_extractor()
    extractor.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(FeatureError, match="odd: the extractor cannot be sent to worker processes"):
        FeaturePipeline(extractor).extract(make_corpus([0.1] * 4), cache=None, workers=2)


def test_chunks_keep_every_item_in_order() -> None:
    stamps = {f"/{i}": (32000 * (i % 7 + 1), 0) for i in range(100)}
    items = [Item(i, f"/{i}", end=0.5 if i % 10 == 0 else None) for i in range(100)]
    for workers in (1, 2, 16):
        parts = chunks(items, stamps, workers)
        assert [item for part in parts for item in part] == items
        assert min(map(len, parts)) >= 1
        assert len(parts) >= 4 * workers - 1
    assert chunks([], stamps, 2) == []
    long = [Item(0, "/a", 0.0, 5000.0), Item(1, "/a", 5000.0, 5001.0), Item(2, "/missing")]
    assert [len(part) for part in chunks(long, {}, 2)] == [1, 2]
    assert max(len(part) for part in chunks([Item(i, "/missing") for i in range(100)], {}, 1)) == 32


def test_little_work_starts_no_processes() -> None:
    assert sensible_workers([Item(0, "/a", 0.0, 3.0)], {}) == 1
    assert sensible_workers([], {}) == 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert sensible_workers([Item(0, "/a", 0.0, 1e6)], {}) == cores


SCRIPT = textwrap.dedent(
    """
    import sys
    import pandas as pd
    from graphophone.corpora.base import Corpus
    from graphophone.features import FeatureCache, FeaturePipeline, create_extractor

    # Without a main guard: workers must not run this script again.
    corpus = Corpus.from_table(pd.read_csv(sys.argv[1]), name="made")
    features = FeaturePipeline(create_extractor("is10")).extract(
        corpus, cache=FeatureCache(sys.argv[2]), workers=int(sys.argv[3])
    )
    assert len(features) == len(corpus), features.failures
    print("cached", features.stats.cached)
    """
)


ITEMS = 40


@pytest.fixture
def command(tmp_path: Path, make_corpus: MakeCorpus) -> list[str]:
    corpus = make_corpus([1.0 + 0.01 * i for i in range(ITEMS)])
    corpus.table[["id", "audio", "label"]].to_csv(tmp_path / "corpus.csv", index=False)
    (tmp_path / "script.py").write_text(SCRIPT)
    return [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "corpus.csv")]


def entries(folder: Path) -> list[Path]:
    return list(folder.rglob("*.safetensors"))


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: load_file(path)["features"] for path in entries(folder)}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


def wait_for(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    """Until something has happened; on a machine that does much else at once, that may be a while."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.02)


def workers_of(parent: int) -> list[int]:
    """Living processes that name ``parent`` as the one that started them (its children, or orphans of it)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, ppid = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(ppid) == parent and state != "Z":
            found.append(int(folder.name))
    return found


def alive(process: int) -> bool:
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def undisturbed(command: list[str], tmp_path: Path) -> dict[str, np.ndarray]:
    folder = tmp_path / "undisturbed"
    corpus = Corpus.from_table(pd.read_csv(command[-1]), name="made")
    FeaturePipeline(create_extractor("is10")).extract(corpus, cache=FeatureCache(folder), workers=1)
    return arrays(folder)


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


@linux
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_kill_in_the_middle_then_again(
    workers: int, command: list[str], tmp_path: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    folder = tmp_path / "killed"
    process = subprocess.Popen([*command, str(folder), str(workers)], stdout=subprocess.PIPE)
    wait_for(lambda: len(entries(folder)) >= 4)
    children = workers_of(process.pid)
    process.kill()
    process.communicate()
    assert process.returncode == -signals.SIGKILL
    wait_for(lambda: not any(map(alive, children)), 120.0)
    done = len(entries(folder))
    assert 4 <= done < ITEMS
    # What a kill in the middle of a write leaves, in addition to what it may have left by itself.
    leftover = folder / "tmp" / f"{os.uname().nodename}-{process.pid}-0123"
    leftover.write_bytes(b"half an entry")
    again = subprocess.run([*command, str(folder), str(workers)], capture_output=True, text=True, check=True)
    assert again.stdout == f"cached {done}\n"
    assert_same(arrays(folder), undisturbed)
    assert list((folder / "tmp").iterdir()) == []


@linux
def test_interrupt_leaves_no_process_and_a_sound_cache(
    command: list[str], tmp_path: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    folder = tmp_path / "interrupted"
    process = subprocess.Popen([*command, str(folder), "2"], stderr=subprocess.PIPE, start_new_session=True)
    wait_for(lambda: len(entries(folder)) >= 4)
    children = workers_of(process.pid)
    assert len(children) >= 2
    os.killpg(process.pid, signals.SIGINT)  # as Ctrl-C does: to all of them
    _, text = process.communicate(timeout=120)
    assert process.returncode not in (0, None)
    assert b"KeyboardInterrupt" in text
    wait_for(lambda: not any(map(alive, children)), 120.0)
    so_far = arrays(folder)
    assert_same(so_far, {name: undisturbed[name] for name in so_far})
    subprocess.run([*command, str(folder), "1"], check=True)
    assert_same(arrays(folder), undisturbed)


def test_two_extractions_at_once(command: list[str], tmp_path: Path, undisturbed: dict[str, np.ndarray]) -> None:
    folder = tmp_path / "shared"
    both = [subprocess.Popen([*command, str(folder), "1"]) for _ in range(2)]
    assert [process.wait(timeout=240) for process in both] == [0, 0]
    assert_same(arrays(folder), undisturbed)
    assert list((folder / "tmp").iterdir()) == []
