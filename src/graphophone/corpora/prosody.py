"""Prosody: a built-in corpus of synthetic, speech-like utterances in four emotions.

It is there to try things out on a machine without any corpus: the demo and the tests train on it. Results on
it say that a system works, and nothing about people.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import platformdirs
import soundfile as sf

from graphophone.corpora.base import Corpus, CorpusError
from graphophone.corpora.voice import RATE, Manner, Voice, synthesize

CLASSES = ("angry", "happy", "neutral", "sad")

SENTENCES = (
    "mAno sitU kelAdi",
    "torE galimA vus",
    "jelO banItu re fAsi",
    "sonA wepi dUla kom",
    "lIre tasOvi najU",
    "cEmo padu zilAne",
    "gAvo nusEli mit",
    "hUna korI belasO",
    "fetO ramI jusa dE",
    "wAli beno citUra",
)
"""Words of phones for `graphophone.corpora.voice`; upper case is stressed. Every speaker says each in every emotion."""

# Part of the name of the folder: recordings of an older synthesiser are not taken for the present ones.
_VERSION = 1

# What an emotion of strength 1 does to the speaker's habit, and how much each dimension varies from one utterance to
# the next for no reason. The directions are those of the surveys of Murray and Arnott (1993) and of Juslin and Laukka
# (2003); the sizes are chosen so that no single dimension tells the emotion, and all together mostly do.
# pitch, final: semitones; level: dB; tilt: dB per octave; open: part of the period; breath: amplitude; the others:
# natural logarithms of factors.
_DIMENSIONS = (
    "pitch", "accent", "rate", "level", "tilt", "open", "breath", "jitter", "vowels", "tract", "final", "pause",
)  # fmt: skip
_EMOTIONS = {
    "angry":   (3.0,  0.20,  0.14,  4.5,  2.5, -0.10, -0.01,  0.55,  0.15,  0.00, -2.5, -0.3),
    "happy":   (3.3,  0.75,  0.08,  2.2,  1.2,  0.02,  0.00, -0.20,  0.08,  0.05,  3.0, -0.2),
    "neutral": (0.0,  0.00,  0.00,  0.0,  0.0,  0.00,  0.00,  0.00,  0.00,  0.00,  0.0,  0.0),
    "sad":     (-2.0, -0.60, -0.15, -3.0, -2.5,  0.10,  0.05,  0.30, -0.15, -0.01, -0.5,  0.3),
}  # fmt: skip
_VARIATION = (0.8, 0.15, 0.05, 1.8, 0.5, 0.03, 0.012, 0.15, 0.05, 0.010, 0.8, 0.25)
# Effort differs from one utterance to the next without any emotion, and moves several dimensions together.
_EFFORT = (0.6, 0.08, 0.02, 2.0, 0.6, -0.02, 0.00, 0.00, 0.03, 0.00, 0.0, 0.0)


@dataclass(frozen=True)
class _Utterance:
    """One recording to be made: who says which sentence how, and the ``number`` of its repetition."""

    speaker: int
    emotion: str
    sentence: int
    number: int

    @property
    def name(self) -> str:
        return f"{_speaker_name(self.speaker)}-{self.emotion}-{self.number:02d}"


def load(
    root: Path | None = None, *, speakers: int = 8, utterances: int = 10, seed: int = 0, progress: bool = True
) -> Corpus:
    """The built-in corpus of synthetic speech: made on first use, in seconds, and kept.

    Made-up sentences, the same ones from every speaker in every emotion. Speakers, half of them with a
    woman's and half with a man's voice, differ in pitch, vocal tract, voice quality, rate, level and
    background noise. The emotions are carried by the mean, range and movement of the pitch, rate, energy,
    spectral tilt, breathiness, irregularity of the voice and clarity of the vowels; how strongly, and by
    which of these, differs from speaker to speaker and from utterance to utterance, and all of them vary for
    no reason too. A linear classifier of utterance statistics gets about three quarters of unseen speakers'
    utterances right.

    The recordings (16 kHz, 16 bits) depend on ``seed`` and on the place of the utterance in the corpus only:
    more utterances or speakers leave the others as they were. Columns besides the usual: ``fold`` (one woman
    and one man each), ``gender``, ``sentence``.

    Args:
        root: Folder to keep the recordings in, below a folder of their own named after the options. By
            default the user's cache (``GRAPHOPHONE_CACHE``, or the system's place for caches).
        speakers: Number of speakers, at least 2.
        utterances: Number of recordings of each speaker in each emotion.
        seed: Another seed gives other speakers and utterances.
        progress: Show a progress bar (only on a terminal).

    Raises:
        CorpusError: If a number is too small, or the folder cannot be written.
    """
    if speakers < 2 or utterances < 1 or seed < 0:
        raise CorpusError(
            f"corpus 'prosody': speakers={speakers}, utterances={utterances}, seed={seed}: at least 2, 1 and 0"
        )
    options = {"version": _VERSION, "speakers": speakers, "utterances": utterances, "seed": seed}
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]
    folder = (_cache_folder() if root is None else Path(root)).absolute() / f"prosody-{digest}"
    planned = [
        _Utterance(speaker, emotion, number % len(SENTENCES), number)
        for speaker in range(speakers)
        for emotion in CLASSES
        for number in range(utterances)
    ]
    try:
        _record(folder, planned, seed, progress)
    except (OSError, sf.LibsndfileError) as error:
        raise CorpusError(f"corpus 'prosody': cannot write {folder} ({error}); give another root") from None
    return Corpus.from_table(
        _table(planned, folder),
        name="prosody",
        classes=CLASSES,
        rows=None,
        licence="Apache-2.0",
        citation="Synthetic speech made by graphophone.",
    )


def _cache_folder() -> Path:
    return Path(os.environ.get("GRAPHOPHONE_CACHE") or platformdirs.user_cache_dir("graphophone")) / "corpora"


def _table(planned: list[_Utterance], folder: Path | None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": u.name,
            "audio": f"{u.name}.wav" if folder is None else str(folder / f"{u.name}.wav"),
            "text": SENTENCES[u.sentence].lower(),
            "label": u.emotion,
            "speaker": _speaker_name(u.speaker),
            "fold": u.speaker // 2,
            "gender": _gender(u.speaker),
            "sentence": u.sentence,
        }
        for u in planned
    )


def _gender(speaker: int) -> str:
    return "male" if speaker % 2 else "female"


def _speaker_name(speaker: int) -> str:
    return f"{_gender(speaker)[0]}{speaker // 2 + 1:02d}"


# -------------------------------------------------------------------------------------------------- recording


def _record(folder: Path, planned: list[_Utterance], seed: int, progress: bool) -> None:
    """Make the recordings that are missing.

    Each file is written under another name and renamed when whole, and the manifest comes last: after a kill
    the next call goes on where this one stopped, and of two processes at once both write the same files.
    """
    manifest = folder / "manifest.csv"
    sizes = _read_sizes(manifest)
    present = {path.name: path.stat().st_size for path in folder.glob("*.wav")}
    # A file whose size is not the one in the manifest was damaged since.
    missing = [
        u
        for u in planned
        if f"{u.name}.wav" not in present or sizes.get(u.name, present[f"{u.name}.wav"]) != present[f"{u.name}.wav"]
    ]
    if not missing and sizes:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for utterance in _with_bar(missing, progress):
        signal = _speak(utterance, seed)
        target = folder / f"{utterance.name}.wav"
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            sf.write(partial, signal, RATE, subtype="PCM_16", format="WAV")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    table = _table(planned, None)
    table["bytes"] = [(folder / audio).stat().st_size for audio in table["audio"]]
    partial = folder / f".manifest.{uuid.uuid4().hex}"
    table.to_csv(partial, index=False)
    partial.replace(manifest)
    for leftover in folder.glob(".*"):  # of a process that was killed; one at work now has younger files
        if leftover.stat().st_mtime < time.time() - 3600:
            leftover.unlink(missing_ok=True)


def _read_sizes(manifest: Path) -> dict[str, int]:
    try:
        table = pd.read_csv(manifest, dtype={"id": str})
        return dict(zip(table["id"], table["bytes"].astype(int), strict=True))
    except (FileNotFoundError, ValueError, KeyError):
        return {}


def _with_bar(planned: list[_Utterance], progress: bool) -> Iterator[_Utterance]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    shown = progress and sys.stderr.isatty()
    yield from track(planned, "making the prosody corpus", console=console, transient=True, disable=not shown)


# --------------------------------------------------------------------------------------------------- speakers


def _speak(utterance: _Utterance, seed: int) -> np.ndarray:
    emotion = CLASSES.index(utterance.emotion)
    rng = np.random.default_rng([seed, 1, utterance.speaker, emotion, utterance.number])
    voice, styles = _speaker(utterance.speaker, seed)
    strength = rng.uniform(0.6, 1.2)
    moved = strength * styles[emotion] * np.array(_EMOTIONS[utterance.emotion])
    moved = moved + np.array(_VARIATION) * rng.standard_normal(len(_DIMENSIONS))
    moved = moved + np.array(_EFFORT) * rng.standard_normal()
    m = dict(zip(_DIMENSIONS, moved, strict=True))
    manner = Manner(
        pitch=m["pitch"],
        accent=2.6 * np.exp(m["accent"]),
        declination=rng.normal(3.0, 0.8),
        final=-2.0 + m["final"],
        rate=np.exp(m["rate"]),
        pause=np.exp(m["pause"]),
        level=m["level"],
        tilt=m["tilt"],
        open=float(np.clip(0.62 + m["open"], 0.4, 0.9)),
        breath=max(0.0, m["breath"]),
        jitter=0.008 * np.exp(m["jitter"]),
        shimmer=0.05 * np.exp(m["jitter"]),
        vowels=np.exp(m["vowels"]),
        tract=np.exp(m["tract"]),
    )
    return synthesize(SENTENCES[utterance.sentence], voice, manner, rng)


def _speaker(speaker: int, seed: int) -> tuple[Voice, np.ndarray]:
    """The voice, and `[classes, dimensions]`: how much of each dimension this speaker puts into each emotion."""
    rng = np.random.default_rng([seed, 2, speaker])
    female = _gender(speaker) == "female"
    voice = Voice(
        pitch=float((182 if female else 118) * 2 ** (rng.uniform(-2.0, 2.0) / 12)),
        tract=float((1.16 if female else 1.0) * rng.uniform(0.95, 1.05)),
        tilt=float(3.0 + rng.normal(0, 0.7)),
        rate=float(rng.lognormal(0.06, 0.06)),
        level=float(rng.normal(0, 2.2)),
        breath=float(rng.uniform(0.01, 0.05) + 0.02 * female),
        noise=float(rng.uniform(-68, -58)),
    )
    return voice, rng.uniform(0.6, 1.4, (len(CLASSES), len(_DIMENSIONS)))
