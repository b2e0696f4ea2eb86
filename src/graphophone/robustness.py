"""What noise does to a run: each of its models on noisy copies of its own test recordings.

Noise is added to waveforms before features are computed, to test recordings only. Features of noisy copies are kept in
the feature cache and the answers in ``folds/<training>/noise/``, so that the same call again, after an interruption or
with more noises, computes what is new only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

import graphophone
from graphophone.corpora.base import Corpus, CorpusError, Problem
from graphophone.evaluation.drops import drop_rows
from graphophone.evaluation.noise_section import csv_rows
from graphophone.evaluation.report import write_report
from graphophone.evaluation.results import JobResult, RunResults, read_predictions
from graphophone.features import FeatureCache, FeaturePipeline, FeatureSet
from graphophone.features.base import Extractor, stable_hash
from graphophone.features.cache import content_hash, file_stamp
from graphophone.features.modalities import Modalities
from graphophone.features.noises import Noise
from graphophone.features.noisy import Noisy
from graphophone.features.pipeline import audio_items
from graphophone.files import write_csv, write_json
from graphophone.inference import Recognizer
from graphophone.inference.bundle import load_bundle
from graphophone.inference.progress import track
from graphophone.noise_plan import HEADLINE, NOISES, SNRS, RobustnessError, checked_ratios, plan
from graphophone.runs import load_corpus

_AT_ONCE = 256  # recordings whose features are in memory
_AGREE = 0.99  # share of the clean answers that are to be those of the run


@dataclass(frozen=True, eq=False)
class Robustness:
    """What noise does to a run.

    Attributes:
        folder: The run folder; it holds ``robustness.json``, ``robustness.csv`` and ``figures/robustness.png``.
        content: Contents of ``robustness.json``.
        problems: Recordings that were left out, and why.
    """

    folder: Path
    content: dict[str, Any]
    problems: tuple[Problem, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """The drops as in ``robustness.csv``: percent and points."""
        return pd.DataFrame(csv_rows(self.content))


@dataclass(frozen=True, eq=False)
class _Tested:
    """The recordings that a run was tested on.

    Attributes:
        corpus: These items of the corpus.
        whole: All items of it.
        pipeline: The models' features.
        max_duration: Longest recording that the run takes, in seconds.
        gone: Items of the test that the corpus has no more.
    """

    corpus: Corpus
    whole: Corpus
    pipeline: FeaturePipeline
    max_duration: float | None
    gone: tuple[Problem, ...]


class _Features:
    """Features of recordings by their ids, from one or several extractions."""

    def __init__(self) -> None:
        self.places: dict[str, tuple[FeatureSet, int]] = {}
        self.failures: list[Problem] = []
        self.fingerprints: list[str] = []

    def add(self, found: FeatureSet) -> None:
        self.places |= {name: (found, number) for number, name in enumerate(found.ids)}
        self.failures += found.failures
        self.fingerprints.append(found.pipeline.fingerprint)

    def __getitem__(self, name: str) -> np.ndarray:
        found, number = self.places[name]
        return found[number]


def robustness(
    run: str | Path,
    *,
    noises: Sequence[str] = NOISES,
    noise_files: Sequence[str | Path] = (),
    talkers: Sequence[str | Path] = (),
    snrs: Sequence[float] = SNRS,
    seed: int = 0,
    root: str | Path | None = None,
    workers: int | None = None,
    device: str = "cpu",
    progress: bool = True,
    console: Console | None = None,
) -> Robustness:
    """Test a run on noisy copies of its test recordings.

    Every finished training answers for its own test items with its own model folder, clean and with every noise at
    every ratio. The noise of a recording depends on its samples, the noise and ``seed`` only, so that models that hear
    the same sampling rate hear the same mixtures. Writes ``robustness.json``, ``robustness.csv`` and a figure into the
    run folder, and the report again.

    Args:
        run: The run folder.
        noises: Of ``"white"``, ``"pink"``, ``"babble"``. Babble is left out, with a word, where the corpus is not one
            of speech or does not name two speakers, unless ``talkers`` are given.
        noise_files: Recordings of noise, each named by its file: ``factory.wav`` is ``factory``.
        talkers: Recordings of speech (files, folders) to make babble of, in place of the corpus' other speakers.
        snrs: Signal-to-noise ratios in dB, of the power of the recording while it is active.
        seed: Another number draws other noise.
        root: Where the corpus is now, if it has moved.
        workers: Processes that compute features; all cores by default.
        device: Where the networks run.
        progress: Show progress.
        console: Where to show it.

    Raises:
        GraphophoneError: In one line, naming what is wrong and what to do.
    """
    console = console or Console(stderr=True, quiet=not progress)
    results = RunResults.read(run)
    jobs = [job for job in results.done if job.seed in results.scored_seeds]
    tested = _tested(results, jobs, root)
    ratios = checked_ratios(snrs)
    planned, skipped = plan(tested.corpus, tested.whole, noises, noise_files, talkers, sounds=results.measures.sounds)
    for entry in skipped:
        console.print(f"[yellow]{entry['noise']} is left out[/yellow]: ", end="")
        console.print(entry["reason"], markup=False, highlight=False, soft_wrap=True)

    def extract(parts: Sequence[tuple[np.ndarray, FeaturePipeline]]) -> _Features:
        found = _Features()
        for rows, pipeline in parts:
            found.add(
                pipeline.extract(
                    tested.corpus.select(rows),
                    cache=FeatureCache(),
                    workers=workers,
                    progress=progress,
                    max_duration=tested.max_duration,
                )
            )
        return found

    conditions: dict[tuple[str, float] | None, _Features] = {
        None: extract([(np.arange(len(tested.corpus)), tested.pipeline)])
    }
    for noise in planned:
        for snr in ratios:
            console.print(f"{noise.name} at {snr:g} dB", highlight=False)
            conditions[noise.name, snr] = extract(
                [
                    (
                        rows,
                        FeaturePipeline(
                            _noisy(tested.pipeline.extractor, source, snr, seed), **tested.pipeline.options
                        ),
                    )
                    for rows, source in noise.parts
                ]
            )
    failures = [problem for found in conditions.values() for problem in found.failures]
    problems = list({problem.item: problem for problem in (*tested.gone, *failures)}.values())
    answers = _answers(jobs, tested, conditions, device, progress and console.is_terminal)
    left_out = {problem.item for problem in problems}
    kept = {key: table[~table["id"].isin(left_out)] for key, table in answers.items()}
    clean = kept.pop(None)
    if clean.empty:
        raise RobustnessError(
            f"{results.folder}: no test recording can be used with noise; {problems[0].item}: {problems[0].reason}"
        )
    measures = [results.measures.main.key, results.measures.second.key]
    noisy = {key: table for key, table in kept.items() if key is not None}
    content = {
        "version": graphophone.__version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "measures": measures,
        "snrs": ratios,
        "headline": min(ratios, key=lambda snr: abs(snr - HEADLINE)),
        "seed": seed,
        "rate": tested.pipeline.rate,
        "items": int(clean["id"].nunique()),
        "items_key": stable_hash(sorted(set(clean["id"])), digits=16),
        "trainings": [[job.fold, job.seed] for job in jobs],
        "noises": [{"name": noise.name, "key": noise.key} for noise in planned],
        "skipped": skipped,
        "notes": [*(note for noise in planned for note in noise.notes), *_disagreement(results, jobs, clean)],
        "left_out": [problem.to_dict() for problem in problems],
        "rows": drop_rows(clean, noisy, results.classes, measures),
    }
    write_json(results.folder / "robustness.json", content)
    write_csv(results.folder / "robustness.csv", pd.DataFrame(csv_rows(content)))
    write_report(results.folder)
    return Robustness(results.folder, content, tuple(problems))


def _tested(results: RunResults, jobs: Sequence[JobResult], root: str | Path | None) -> _Tested:
    """The test recordings of a run, in the order of the corpus.

    Raises:
        RobustnessError: If nothing has been tested, or the corpus is not the one of the run.
    """
    if not jobs:
        raise RobustnessError(f"{results.folder}: no training has finished yet, so there is no model to test")
    if not results.recipe:
        raise RobustnessError(
            f"{results.folder} has no recipe.yaml, which names its corpus; repeat the training command"
        )
    slot = dict(results.recipe["corpus"])
    if root is not None:
        slot["root"] = str(root)
    try:
        corpus = load_corpus(slot)
    except CorpusError as error:
        raise RobustnessError(f"{error} (if the corpus has moved, give its place with --root)") from error
    ids = {str(name) for job in jobs for name in _predictions(job)["id"]}
    known = corpus.table["id"].astype(str)
    missing = sorted(ids.difference(known))
    if 2 * len(missing) > len(ids):
        raise RobustnessError(
            f"corpus {corpus.name!r} has no item {missing[0]!r}, which {results.folder} was tested on, and so with "
            f"{len(missing)} of {len(ids)}; give the corpus of the run with --root"
        )
    chosen = corpus.select(known.isin(ids).to_numpy())
    if not any(item.path for item in audio_items(chosen)):
        raise RobustnessError(f"corpus {corpus.name!r} has no recordings, so there is nothing to add noise to")
    longest = float((results.recipe.get("training") or {}).get("max_duration") or 0.0)
    pipeline = load_bundle(jobs[0].folder / "model").pipeline
    extractor = pipeline.extractor
    heard = extractor.parts.get("audio") if isinstance(extractor, Modalities) else extractor
    if heard is None or heard.reads != "signal":
        raise RobustnessError(
            f"{results.folder}: its model hears no recordings, so there is nothing to add noise to; train one on "
            "features of sound"
        )
    why = {problem.item: problem.reason for problem in corpus.problems if problem.severity == "error"}
    gone = tuple(Problem(name, None, why.get(name, "the corpus has no such item any more")) for name in missing)
    return _Tested(chosen, corpus, pipeline, longest or None, gone)


def _noisy(extractor: Extractor, source: Noise, snr: float, seed: int) -> Extractor:
    """Features of noisy recordings; what was said stays as it is."""
    if isinstance(extractor, Modalities):
        return extractor.over_audio(lambda audio: Noisy(audio, source, snr, seed=seed))
    return Noisy(extractor, source, snr, seed=seed)


def _predictions(job: JobResult) -> pd.DataFrame:
    assert job.predictions is not None  # noqa: S101 - finished trainings have them
    return job.predictions


def _answers(
    jobs: Sequence[JobResult],
    tested: _Tested,
    conditions: Mapping[tuple[str, float] | None, _Features],
    device: str,
    progress: bool,
) -> dict[tuple[str, float] | None, pd.DataFrame]:
    """Predictions by noise and ratio (None: clean) of all trainings; what an earlier call has left is read."""
    sounds = _facts(tested)
    tables: dict[tuple[str, float] | None, list[pd.DataFrame]] = {key: [] for key in conditions}
    for job in track(jobs, "recognising", len(jobs), show=progress):
        model = _model_key(job.folder / "model")
        recognizer: Recognizer | None = None
        told = _predictions(job)
        for condition, features in conditions.items():
            table = told[told["id"].isin(features.places.keys())]
            stem = "clean" if condition is None else f"{condition[0]}_{condition[1]:g}dB"
            key = stable_hash([model, features.fingerprints, [sounds[name] for name in table["id"]]], digits=12)
            path = job.folder / "noise" / f"{stem}-{key}.csv"
            if not path.is_file():
                recognizer = recognizer or Recognizer.from_pretrained(job.folder / "model", device=device)
                path.parent.mkdir(exist_ok=True)
                write_csv(path, _answered(recognizer, table, features))
                for outdated in path.parent.glob(f"{stem}-*.csv"):
                    if outdated != path:
                        outdated.unlink()
            tables[condition].append(read_predictions(path).assign(fold=job.fold, seed=job.seed))
    return {key: pd.concat(found, ignore_index=True) for key, found in tables.items()}


def _answered(recognizer: Recognizer, table: pd.DataFrame, features: _Features) -> pd.DataFrame:
    """A table of predictions with the answers to other features of its items.

    Without the column ``spread``: a spread over draws is that of the clean answers.
    """
    ids = table["id"].tolist()
    found = [
        recognizer.probabilities([features[name] for name in ids[first : first + _AT_ONCE]])
        for first in range(0, len(ids), _AT_ONCE)
    ]
    classes = list(recognizer.labels)
    p = np.concatenate(found) if found else np.zeros((0, len(classes)), dtype=np.float32)
    names = np.array(classes, dtype=object)
    told = (
        [";".join(names[chosen]) for chosen in p >= 0.5]
        if recognizer.bundle.kind == "tagging"
        else names[p.argmax(axis=1)]
    )
    kept = table.drop(columns="spread", errors="ignore")
    return kept.assign(predicted=told, **{f"p_{name}": p[:, i] for i, name in enumerate(classes)})


def _facts(tested: _Tested) -> dict[str, Any]:
    """What an answer depends on besides model, features and noise: file, segment and metadata of each item, by id."""
    table = tested.corpus.table
    columns = [name for name in tested.pipeline.metadata if name in table]
    metadata = table[columns].to_numpy(dtype=np.float64, na_value=np.nan).round(9).tolist()
    stamps = {
        path: file_stamp(path) for path in {item.path for item in audio_items(tested.corpus)} if Path(path).is_file()
    }
    return {
        str(name): [stamps.get(item.path), item.start, item.end, [str(value) for value in values]]
        for name, item, values in zip(table["id"], audio_items(tested.corpus), metadata, strict=True)
    }


def _model_key(folder: Path) -> list[str]:
    """Changes with the files of a model."""
    return [content_hash(str(path)) for path in sorted(folder.glob("*")) if path.suffix in (".json", ".safetensors")]


def _disagreement(results: RunResults, jobs: Sequence[JobResult], clean: pd.DataFrame) -> list[str]:
    """A sentence if clean recordings are answered otherwise than in the run's own test."""
    told = pd.concat([_predictions(job).assign(fold=job.fold, seed=job.seed) for job in jobs])
    both = clean.merge(told, on=["id", "fold", "seed"], suffixes=("", "_told"))
    columns = [f"p_{name}" for name in results.classes]
    ours, theirs = both[columns].to_numpy(), both[[f"{name}_told" for name in columns]].to_numpy()
    if results.measures.kind == "tagging":
        same = float(((ours >= 0.5) == (theirs >= 0.5)).mean())
    else:
        same = float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean())
    if same >= _AGREE:
        return []
    return [
        f"Of the clean answers {100 * (1 - same):.1f} % differ from those of the run's own test: the recordings or the "
        "feature extraction have changed since."
    ]
