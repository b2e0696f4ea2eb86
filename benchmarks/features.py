"""How fast the feature pipeline is, against calling openSMILE file by file.

    python benchmarks/features.py
    python benchmarks/features.py --root path/to/corpus --items 200 --csv features.csv

What is computed is the same for all: the 38 descriptors of openSMILE's INTERSPEECH 2010 set and their 38
deltas. The sides are

* ``file by file``: ``smile.process_file`` for the descriptors and again for the deltas, one file after the
other, with
  the two objects made once;
* ``package, n processes``: ``smile.process_files`` for the descriptors and again for the deltas, with the
package's
  own processes;
* ``ours, n workers``: `graphophone.features.FeaturePipeline.extract` into an empty cache, starting the
processes and
  writing the cache included;
* ``ours, from the cache``: the same call again, with every checksum verified and every array read.

Before anything is timed, all sides are asserted to give equal arrays, to the last bit. Sides are measured in
turn within each round, so that a change in the machine's load meets all of them alike; processor seconds (of
all processes) depend on it least.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import opensmile
import pandas as pd
import soundfile as sf
from joblib.externals.loky import get_reusable_executor

import graphophone
from graphophone import audio
from graphophone.corpora.base import Corpus
from graphophone.features import FeatureCache, FeaturePipeline, create_extractor

RATE = 16000
Side = Callable[[], list[np.ndarray]]


def make_files(folder: Path, items: int, seconds: float) -> list[str]:
    """16-bit files of a pulse train with vibrato, pauses and noise."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(items):
        t = np.arange(round(seconds * RATE * rng.uniform(0.7, 1.3))) / RATE
        pitch = rng.uniform(90, 280)
        pulses = np.sign(np.sin(2 * np.pi * pitch * t + 2 * np.sin(2 * np.pi * 4 * t)))
        signal = 0.3 * pulses * (np.sin(2 * np.pi * 0.7 * t) > -0.6) + 0.01 * rng.standard_normal(len(t))
        paths.append(str(folder / f"{i:04}.wav"))
        sf.write(paths[-1], signal, RATE, subtype="PCM_16")
    return paths


def find_files(root: Path, items: int) -> list[str]:
    """Evenly chosen recordings of a folder that openSMILE can take as they are (it does not resample)."""
    found = [str(path) for path in audio.find_audio(root)]
    paths = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, min(items, len(found))).astype(int))]
    for path in paths:
        info = audio.info(path)
        if info.rate != RATE or info.channels != 1 or info.subtype != "PCM_16":
            raise SystemExit(f"{path}: outputs can be equal on 16-bit mono files at {RATE} Hz only")
    return paths


def smile(level: str, processes: int = 1) -> opensmile.Smile:
    """A level of the feature set, as the package offers it."""
    return opensmile.Smile(
        opensmile.FeatureSet.IS10,
        getattr(opensmile.FeatureLevel, level),
        num_workers=processes,
        multiprocessing=processes > 1,
    )


def join(descriptors: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Both levels side by side; the deltas have two rows more at their end."""
    return np.concatenate([descriptors, deltas[: len(descriptors)]], axis=1)


def file_by_file(paths: list[str]) -> Side:
    descriptors, deltas = smile("LowLevelDescriptors"), smile("LowLevelDescriptors_Deltas")
    return lambda: [
        join(descriptors.process_file(path).to_numpy(), deltas.process_file(path).to_numpy()) for path in paths
    ]


def package(paths: list[str], processes: int) -> Side:
    levels = [smile(name, processes) for name in ("LowLevelDescriptors", "LowLevelDescriptors_Deltas")]

    def run() -> list[np.ndarray]:
        tables = []
        for level in levels:
            groups = dict(iter(level.process_files(paths).groupby("file", sort=False)))
            tables.append([groups[path].to_numpy() for path in paths])
        return [join(a, b) for a, b in zip(*tables, strict=True)]

    return run


def ours(corpus: Corpus, folder: Path, workers: int, *, warm: bool) -> Side:
    pipeline = FeaturePipeline(create_extractor("is10"))

    def run() -> list[np.ndarray]:
        features = pipeline.extract(corpus, cache=FeatureCache(folder), workers=workers, progress=False)
        assert not features.failures, features.failures
        assert features.stats.cached == (len(corpus) if warm else 0)
        return [np.array(array) for array in features]

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of 16-bit mono files at 16 kHz; default: made on the spot")
    parser.add_argument("--items", type=int, default=120, help="files to use (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.5, help="mean length of files made (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements per side (%(default)s)")
    parser.add_argument("--csv", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.root is None:
            paths = make_files(folder, options.items, options.seconds)
        else:
            paths = find_files(options.root, options.items)
        compare(paths, folder / "cache", options)


def compare(paths: list[str], cache: Path, options: argparse.Namespace) -> None:
    corpus = Corpus.from_table(
        pd.DataFrame({"id": [str(i) for i in range(len(paths))], "audio": paths, "label": "none"}),
        name="benchmark",
    )
    seconds = sum(audio.info(path).duration for path in paths)
    warm, n = cache.with_name("warm"), options.workers
    ours(corpus, warm, 1, warm=False)()
    sides: dict[str, Side] = {
        "file by file": file_by_file(paths),
        f"package, {n} processes": package(paths, n),
        "ours, 1 worker": ours(corpus, cache, 1, warm=False),
        f"ours, {n} workers": ours(corpus, cache, n, warm=False),
        "ours, from the cache": ours(corpus, warm, 1, warm=True),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    processor: dict[str, list[float]] = {name: [] for name in sides}
    print(
        f"{len(paths)} files, {seconds:.0f} s of audio; graphophone {graphophone.__version__}, opensmile "
        f"{opensmile.__version__}, Python {platform.python_version()}, {os.cpu_count()} processors, load average "
        f"{os.getloadavg()[0]:.2f}"
    )
    expected = sides["file by file"]()
    for turn in range(options.rounds + 1):
        for name, side in sides.items():
            shutil.rmtree(cache, ignore_errors=True)
            began, used = time.perf_counter(), sum(os.times()[:4])
            arrays = side()
            wall = time.perf_counter() - began
            get_reusable_executor().shutdown(wait=True)  # starting the processes is part of every time
            if turn == 0:
                assert all(np.array_equal(a, b) for a, b in zip(arrays, expected, strict=True)), name
            else:
                times[name].append(wall)
                processor[name].append(sum(os.times()[:4]) - used)
    print(f"outputs are equal to the last bit; {options.rounds} rounds in turn after one of warming up")
    print(f"{'':<22} {'median s':>9} {'min s':>8} {'cpu s':>8} {'x real time':>12} {'x file by file':>15}")
    base = statistics.median(times["file by file"])
    rows = []
    for name, measured in times.items():
        median = statistics.median(measured)
        cpu = statistics.median(processor[name])
        print(
            f"{name:<22} {median:>9.2f} {min(measured):>8.2f} {cpu:>8.2f} {seconds / median:>12.0f} "
            f"{base / median:>15.2f}"
        )
        rows.append(
            {
                "side": name,
                "files": len(paths),
                "seconds_audio": round(seconds, 1),
                "median_s": round(median, 4),
                "min_s": round(min(measured), 4),
                "cpu_s": round(cpu, 2),
                "x_real_time": round(seconds / median, 1),
                "x_file_by_file": round(base / median, 2),
                "machine": platform.processor() or platform.machine(),
                "processors": os.cpu_count(),
            }
        )
    print(f"load average at the end {os.getloadavg()[0]:.2f}")
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        print(f"wrote {options.csv}")


if __name__ == "__main__":
    main()
