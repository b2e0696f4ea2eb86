"""What is said, how it is said, and what is seen: vectors of several modalities side by side."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphophone.features.base import Extractor, FeatureError, Level, Reads, create_extractor
from graphophone.features.cache import FeatureCache
from graphophone.features.extraction import Outcome

if TYPE_CHECKING:
    from graphophone.corpora.base import Corpus

Part = str | Mapping[str, Any] | None


class Modalities(Extractor):
    """One vector per utterance, made of those of its modalities; NaN where an utterance lacks one.

    Each modality has an extractor of its own, whose features are cached as if it were used alone. Of one that gives
    frames (or tokens) the mean over them is taken. An utterance without recording has no audio columns, one without
    transcript no text columns; only where it has nothing at all is it left out. A recording that cannot be read is
    named, and its utterance kept if it has a transcript.

    Args:
        text: Extractor of what is said: a name, or a mapping of ``name`` and options; None: not used.
        audio: Extractor of how it is said.
        video: Extractor of what is seen; ready vectors (``given``) are the only ones.
        sequences: Give a network the tokens and frames, too, not their means alone, so that it can attend over them.
            Every extractor must give such (``sequence: true`` of encoders, or any extractor of frames).

    Raises:
        FeatureError: If no modality is named, or an extractor reads something else or gives no sequences.
    """

    name = "modalities"
    reads: ClassVar[Reads] = "modalities"

    def __init__(self, *, text: Part = None, audio: Part = None, video: Part = None, sequences: bool = False) -> None:
        named = {"text": text, "audio": audio, "video": video}
        self.parts: dict[str, Extractor] = {
            modality: _create(modality, part) for modality, part in named.items() if part is not None
        }
        if not self.parts:
            raise FeatureError("modalities: name an extractor for text, audio or video, such as features.audio egemaps")
        self.sequences = bool(sequences)
        for modality, part in self.parts.items() if sequences else ():
            if part.level != "frame":
                raise FeatureError(
                    f"features.sequences is true, but {part.name} gives one vector of {modality}: set its option "
                    "sequence to true, or choose an extractor of frames"
                )
        if "audio" in self.parts:
            self.rate = self.parts["audio"].rate

    @property
    def widths(self) -> dict[str, int]:
        """Columns of each modality, in their order."""
        return {modality: part.dims for modality, part in self.parts.items()}

    @property
    def level(self) -> Level:
        """One vector per utterance."""
        return "utterance"

    @property
    def hop(self) -> float | None:
        """None: there are no frames."""
        return None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns: the modality, a dot, and what its extractor calls them."""
        return tuple(f"{modality}.{column}" for modality, part in self.parts.items() for column in part.columns)

    @property
    def config(self) -> dict[str, Any]:
        """Name and options of the extractor of each modality, and whether their sequences are given."""
        parts = {modality: {"name": part.name, **part.config} for modality, part in self.parts.items()}
        return {**parts, "sequences": self.sequences}

    def backend(self) -> Mapping[str, str]:
        """Fingerprints of the extractors."""
        return {modality: part.fingerprint for modality, part in self.parts.items()}

    def prepare(self) -> None:
        """Import what the extractors need."""
        for part in self.parts.values():
            part.prepare()

    def over_audio(self, change: Callable[[Extractor], Extractor]) -> Modalities:
        """The same with other features of the recordings, as many.

        Args:
            change: From the extractor of audio to the one in its place.
        """
        changed = copy.copy(self)
        changed.parts = {**self.parts, "audio": change(self.parts["audio"])}
        return changed

    def item(self, signal: np.ndarray | None, rate: int, text: str | None = None) -> np.ndarray:
        """The vector of one utterance, NaN in the columns of what it lacks `[dims]`.

        Raises:
            FeatureError: If it has none of the modalities.
        """
        return self.whole(signal, rate, text)[0]

    def whole(
        self, signal: np.ndarray | None, rate: int, text: str | None = None
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The vector of one utterance `[dims]`, and its tokens or frames by modality, each `[length, width]`.

        Raises:
            FeatureError: If it has none of the modalities.
        """
        found: dict[str, np.ndarray] = {}
        for modality, part in self.parts.items():
            there = bool(text and text.strip()) if part.reads == "text" else signal is not None
            if part.reads != "corpus" and there:
                found[modality] = part.item(signal, rate, text)
        given = [modality for modality, part in self.parts.items() if part.reads == "corpus"]
        if not found and len(given) == len(self.parts):
            raise FeatureError(
                f"modalities: vectors of {' and '.join(given)} came with the corpus; no recording or text can be "
                "turned into such, so train on features that are computed to answer for new ones"
            )
        if not found:
            names = list(self.parts)
            if len(names) == 1:
                raise FeatureError(f"modalities: there is no {names[0]}, and nothing else is read; give it")
            raise FeatureError(f"modalities: there is neither {' nor '.join(names)}; give at least one of them")
        return self._join(found), {modality: np.atleast_2d(part) for modality, part in found.items()}

    def _extract(self, signal: np.ndarray) -> np.ndarray:
        return self.item(signal, self.rate)

    def __call__(self, signal: np.ndarray, rate: int) -> np.ndarray:
        """The vector of a recording without transcript; see :meth:`item`."""
        return self.item(signal, rate)

    def _join(self, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """Vectors side by side; frames are averaged."""
        return np.concatenate(
            [
                np.full(part.dims, np.nan, dtype=np.float32)
                if modality not in found
                else np.atleast_2d(found[modality]).mean(axis=0, dtype=np.float64).astype(np.float32)
                for modality, part in self.parts.items()
            ]
        )

    def outcomes(
        self, corpus: Corpus, cache: FeatureCache | None, workers: int | None, max_duration: float | None
    ) -> Iterator[Outcome]:
        """Features of every modality of every item, side by side."""
        from graphophone.features.pipeline import FeaturePipeline

        count = len(corpus.table)
        vectors = np.full((count, self.dims), np.nan, dtype=np.float32)
        reasons: list[list[str]] = [[] for _ in range(count)]
        notes: list[list[str]] = [[] for _ in range(count)]
        seconds, cached = np.zeros(count), np.ones(count, dtype=bool)
        there = np.zeros(count, dtype=bool)
        begin = 0
        for modality, part in self.parts.items():
            columns = slice(begin, begin + part.dims)
            begin += part.dims
            stream = FeaturePipeline(part).outcomes(corpus, cache, workers, max_duration)
            for outcome in stream:
                row = outcome.index
                if outcome.error:
                    reasons[row].append(f"{modality}: {outcome.error}")
                    if _has(corpus, modality, row):  # that there is none is no fault
                        notes[row].append(f"{modality} is left out: {outcome.error}")
                    continue
                array = np.atleast_2d(outcome.features()).mean(axis=0, dtype=np.float64)
                vectors[row, columns] = array
                there[row] |= bool(np.isfinite(array).all())
                notes[row] += outcome.notes
                seconds[row] = max(seconds[row], outcome.duration)
                cached[row] &= outcome.cached
        for row in range(count):
            if there[row]:
                yield Outcome(
                    row,
                    array=vectors[row],
                    duration=float(seconds[row]),
                    notes=tuple(notes[row]),
                    cached=bool(cached[row]),
                )
            else:
                yield Outcome(row, error="; ".join(reasons[row]) or f"it has neither {' nor '.join(self.parts)}")


def _has(corpus: Corpus, modality: str, row: int) -> bool:
    """Whether a corpus names a recording, or a transcript, of an item."""
    column = {"text": "text", "audio": "audio"}.get(modality)
    value = corpus.table[column].iloc[row] if column in corpus.table else None
    return isinstance(value, str) and bool(value.strip())


def _create(modality: str, part: str | Mapping[str, Any]) -> Extractor:
    """The extractor of a modality.

    Raises:
        FeatureError: If it does not read it.
    """
    options = {"name": part} if isinstance(part, str) else dict(part)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise FeatureError(f"features.{modality}: name the extractor, such as {{name: given, dims: 100}}, not {part!r}")
    if name == "given":
        options.setdefault("part", modality)
    extractor = create_extractor(name, **options)
    fitting: dict[str, Sequence[str]] = {
        "text": ("text", "corpus"),
        "audio": ("signal", "corpus"),
        "video": ("corpus",),
    }
    if extractor.reads not in fitting[modality]:
        raise FeatureError(
            f"features.{modality}: {name} reads {extractor.reads}, not {modality}; choose an extractor that does"
            + (", or given for vectors that the corpus has" if modality == "video" else "")
        )
    return extractor
