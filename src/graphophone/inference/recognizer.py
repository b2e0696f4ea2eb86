"""From sound to answers: one file, many files, a folder, an array, or a table of segments."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from graphophone import audio
from graphophone.corpora.base import Problem
from graphophone.dialogues import LONGEST
from graphophone.errors import GraphophoneError
from graphophone.features.modalities import Modalities
from graphophone.graphs.modal import split_modalities
from graphophone.inference.bundle import Bundle, load_bundle
from graphophone.inference.clips import Clip, Heard, hear, hear_many
from graphophone.inference.conversations import (
    Conversation,
    answer_file,
    answer_table,
    probabilities,
    turns_of,
    used,
)
from graphophone.inference.progress import track
from graphophone.inference.references import on_device
from graphophone.models.attached import content_ids, predict_attached
from graphophone.models.bank import Bank, best_route
from graphophone.models.base import usable_device
from graphophone.nn.cross_attention import Sequences

logger = logging.getLogger(__name__)

UNSURE = "unsure"
"""Label of an answer whose confidence is below the threshold."""

TOP = 5
"""How many tags a tagging model names where neither a number nor a threshold is asked for."""


@dataclass(frozen=True)
class Answer:
    """What a model says of one clip.

    Args:
        probabilities: `[classes]`.
        spread: Standard deviation of each over the reference graphs that the clip was attached to `[classes]`; None
            for a model that has none, or only one.
        used: Which of text and audio the network read that answered; empty for a model that reads sound alone.
    """

    probabilities: np.ndarray
    spread: np.ndarray | None = None
    used: str = ""


class Recognizer:
    """Applies a trained model to sound.

    Every verb returns a `pandas.DataFrame` with one row per clip and the columns `file`, `start`, `end`
    (seconds), `label`, `confidence` (the probability of the likeliest class) and `p_<class>` for each class:
    probabilities that add up to one, or for a tagging model, which may hear several things at once, one for
    each tag by itself. A tagging model's table also has the column `tags`, the likeliest ones as a text such as
    `"dog 0.93; bark 0.81"`; other models' tables have it where `top` or `tag_threshold` is given. A model whose
    nodes are recordings answers for a clip beside several graphs of known recordings; `confidence` and `p_<class>` are
    means over these, and the column `spread` is the standard deviation of the confidence over them: how much it hangs
    on which known recordings the clip is compared with. A model that reads text has the columns `text`, what was said,
    and `used`, which of text and audio the answer comes from. A model of conversations answers for each turn in the
    light of the others, see `process_table`; to it a single file or text is a conversation of one turn.
    The row index is the position of the clip in what was given (for a table: the table's own index), so that
    answers can be joined to it even where clips were left out. `frame.attrs["failures"]` lists the clips
    without an answer and why, `frame.attrs["warnings"]` those whose answer deserves doubt (silent, clipped).

    A clip's answer does not depend on the clips that are processed with it.

    Args:
        bundle: A loaded model folder, see `load_bundle`.
        device: Where the network runs, `"cpu"`, `"cuda"`, ...
        threshold: Reject option: answers whose confidence is below it get the label `"unsure"`; the
            probabilities and tags stay. None answers always.
        top: How many classes `tags` names at most. None: 5 for a tagging model, any number where
            `tag_threshold` is given.
        tag_threshold: Lowest probability of a class in `tags`, which may then be empty. None: no bound.
        max_duration: Longest clip in seconds; a longer one holds more than one answer and is a case for
            `graphophone.timeline`. None takes any length: time grows with its square. (A model whose clips have
            one length hears its first `bundle.clip_seconds` only; a warning names each clip that is longer.)
        frames_per_batch: Most frames in the network at once, which bounds the memory; one clip is never
            divided.
        workers: Processes that compute features; None decides by the number of clips and processors, 0 uses
            this process.
        progress: Show a progress bar when there is more than one clip.
        max_turns: Most turns of a conversation that are heard together; a longer one is answered in pieces.

    Raises:
        GraphophoneError: If `threshold` or `tag_threshold` is not in [0, 1], `top`, `max_duration` or `max_turns` not
            above 0, or there is no such device.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str | torch.device = "cpu",
        threshold: float | None = None,
        top: int | None = None,
        tag_threshold: float | None = None,
        max_duration: float | None = 60.0,
        frames_per_batch: int = 4096,
        workers: int | None = None,
        progress: bool = False,
        max_turns: int = LONGEST,
    ) -> None:
        for name, value in (("threshold", threshold), ("tag_threshold", tag_threshold)):
            if value is not None and not 0 <= value <= 1:
                raise GraphophoneError(f"{name}: {value} is not a probability; give a number from 0 to 1")
        if top is not None and (not isinstance(top, int) or isinstance(top, bool) or top < 1):
            raise GraphophoneError(
                f"top: {top!r} is not a number of tags; give a whole number from 1 on, 5 for example"
            )
        if max_duration is not None and not max_duration > 0:
            raise GraphophoneError(
                f"max_duration: {max_duration:g} s must be above 0; give seconds, or None for any length"
            )
        if not isinstance(max_turns, int) or isinstance(max_turns, bool) or max_turns < 1:
            raise GraphophoneError(f"max_turns: {max_turns!r} is not a number of turns; give a whole number from 1 on")
        self.bundle = bundle
        self.device = usable_device(device)
        self.model = bundle.model.to(self.device).eval()
        self.references = on_device(bundle.references, self.device)
        self._bank = Bank(cast(Any, self.model), bundle.graph, self.references[0].x) if bundle.has_bank else None
        self.reads_text = bundle.pipeline.extractor.reads in ("text", "modalities")
        self.gives_spread = len(self.references) > 1 and bundle.attachment["how"] != "none"  # old folders have some
        self.threshold = threshold
        self.gives_tags = bundle.kind == "tagging" or top is not None or tag_threshold is not None
        self.top = TOP if top is None and tag_threshold is None else top
        self.tag_threshold = tag_threshold
        self.max_duration = max_duration
        self.frames_per_batch = frames_per_batch
        self.workers = workers
        self.progress = progress
        self.max_turns = max_turns

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | torch.device = "cpu", **options: Any) -> Recognizer:
        """Load a model folder, the model of a run folder, or a model of the Hugging Face hub.

        Args:
            source: Folder, or hub id `owner/name` or `owner/name@revision`.
            device: Where the network runs.
            options: As for the class: `threshold`, `top`, `max_duration`, `workers`, ...

        Raises:
            ModelFolderError: If there is no usable model; the text names the file and the remedy.
            ModelError: If there is no such device.
        """
        return cls(load_bundle(source, device=device), device=device, **options)

    @property
    def bank(self) -> Bank:
        """The known utterances that a model of text and sound answers among.

        Raises:
            GraphophoneError: If the model has none.
        """
        if self._bank is None:
            raise GraphophoneError(f"{self.bundle.model_name} does not answer among known utterances")
        return self._bank

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the `p_` columns."""
        return self.bundle.labels

    def __repr__(self) -> str:
        return f"Recognizer({self.bundle.model_name}, labels={list(self.labels)}, device={str(self.device)!r})"

    def process_file(
        self,
        path: str | Path,
        start: float | None = None,
        end: float | None = None,
        metadata: Mapping[str, float] | None = None,
        text: str | None = None,
    ) -> pd.DataFrame:
        """Answer for one file, or for a part of it.

        Args:
            path: Audio file.
            start: First second, the beginning if None.
            end: Last second, the end of the file if None.
            metadata: Values of the metadata columns of the features, for example `{"spontaneous": 1}`.
            text: What is said in it, for a model that reads it.

        Returns:
            A table of one row.

        Raises:
            AudioError: If the file cannot be used; the text names it and the reason.
        """
        return self._one(Clip(0, path=str(path), start=start, end=end, metadata=dict(metadata or {}), text=text))

    def process_text(self, text: str, metadata: Mapping[str, float] | None = None) -> pd.DataFrame:
        """Answer for what was said, where there is no recording.

        Args:
            text: The transcript.
            metadata: See `process_file`.

        Returns:
            A table of one row, whose `file` is None.

        Raises:
            GraphophoneError: If the model does not read text, or needs more than that.
        """
        return self._one(Clip(0, metadata=dict(metadata or {}), text=text))

    def process_signal(
        self, signal: np.ndarray, rate: int, metadata: Mapping[str, float] | None = None, text: str | None = None
    ) -> pd.DataFrame:
        """Answer for an array.

        Args:
            signal: `[samples]` or `[channels, samples]`, float in [-1, 1] or integers of any width.
            rate: Samples per second.
            metadata: See `process_file`.
            text: See `process_file`.

        Returns:
            A table of one row, whose `file` is None.

        Raises:
            AudioError: If the array cannot be used.
        """
        return self._one(Clip(0, signal=np.asarray(signal), rate=rate, metadata=dict(metadata or {}), text=text))

    def process_files(self, paths: Iterable[str | Path]) -> pd.DataFrame:
        """Answers for many files; a folder among them stands for every audio file below it.

        Bad files never stop the others: they are named in `attrs["failures"]` and logged.

        Args:
            paths: Files and folders.
        """
        clips: list[Clip] = []
        failures: list[Problem] = []
        for path in map(Path, paths):
            if not path.is_dir():
                clips.append(Clip(len(clips), path=str(path)))
                continue
            found = audio.find_audio(path)
            if not found:
                failures.append(Problem(str(path), None, "no audio files in this folder"))
            clips += [Clip(i, path=str(file)) for i, file in enumerate(found, start=len(clips))]
        return self._many(clips, failures=failures)

    def process_folder(self, folder: str | Path) -> pd.DataFrame:
        """Answers for every audio file in a folder and the folders below it, in the order of their names.

        Raises:
            GraphophoneError: If there is no such folder.
        """
        if not Path(folder).is_dir():
            raise GraphophoneError(f"{folder}: is not a folder; give a folder, or files to process_files")
        return self.process_files([folder])

    def process_table(self, table: pd.DataFrame) -> pd.DataFrame:
        """Answers for the rows of a table.

        Args:
            table: Columns `audio` (or `file`; a path) and, where a row is a part of a file, `start` and `end`
                in seconds. Columns that the features take as metadata, such as `spontaneous`, are used if
                present, and `text`, what is said, by a model that reads it; rows of such a table may lack either. Where
                a recording cannot be used, the text is answered for, with a warning.

        Returns:
            Answers under the table's own index; rows that failed are absent and named in `attrs["failures"]`.

        For a model of conversations every row is a turn: of the conversation named in the column `dialogue` (without
        it, all are of one), in the order of `position` (or of `start`, or of the table), said by `speaker`. The answers
        have these columns, too. A turn whose recording cannot be used is answered for by its text; one of which
        nothing is known is left out, and the others are answered for without it.

        Raises:
            GraphophoneError: If there is no column of paths, or turns cannot be put in order.
        """
        if self.bundle.reads_dialogue:
            return self._indexed(answer_table(self, table), table)
        return self._indexed(self._many(self.clips(table), rows=True), table)

    def process_conversation(self, turns: pd.DataFrame | str | Path, *, online: bool = False) -> pd.DataFrame:
        """Answers for the turns of conversations.

        Args:
            turns: A table as for `process_table`, or a file of turns (CSV, TSV, Parquet, JSON) as
                `graphophone.corpora.conversation.read_turns` reads it.
            online: Answer for each turn from those before it alone, as it unfolds; the column `seconds` then says how
                long each answer took, features included.

        Returns:
            As `process_table`; of a file with the column `id`, and problems by the lines of the file.

        Raises:
            GraphophoneError: If the model hears no conversations, or the turns cannot be read or put in order.
        """
        if isinstance(turns, pd.DataFrame):
            return self._indexed(answer_table(self, turns, online=online), turns)
        return answer_file(self, turns, online=online)

    def conversation(self) -> Conversation:
        """A conversation that is to unfold turn by turn: `talk = recognizer.conversation(); talk.add(...)`.

        Raises:
            GraphophoneError: If the model hears no conversations.
        """
        return Conversation(self)

    def clips(self, table: pd.DataFrame) -> list[Clip]:
        """The clips of the rows of a table, see `process_table`.

        Raises:
            GraphophoneError: If there is no column of paths.
        """
        column = next((name for name in ("audio", "file") if name in table.columns), None)
        if column is None and not (self.reads_text and "text" in table.columns):
            raise GraphophoneError("the table has no column 'audio' (paths of the files); add it")
        wanted = [name for name in self.bundle.pipeline.metadata if name in table.columns]
        clips = []
        for position, row in enumerate(table.to_dict(orient="records")):
            clips.append(
                Clip(
                    position,
                    path=_words(row.get(column)) if self.reads_text or self.bundle.reads_dialogue else str(row[column]),
                    start=_seconds(row.get("start")),
                    end=_seconds(row.get("end")),
                    metadata={name: float(row[name]) for name in wanted if not pd.isna(row[name])},
                    text=(_words(row.get("text")) or "") if self.reads_text else None,
                    either=self.reads_text,
                )
            )
        return clips

    @staticmethod
    def _indexed(answers: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
        """Answers under the index of the table instead of the numbers of its rows."""
        attrs = answers.attrs
        answers.index = table.index[answers.index.to_numpy(dtype=np.int64)]
        answers.attrs = attrs
        return answers

    def probabilities(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Class probabilities of clips that are frames already.

        Args:
            frames: Features as the pipeline gives them, before standardisation, each `[frames, dims]`.

        Returns:
            `[clips, classes]` float32; rows sum to one, but for a tagging model.
        """
        return self._scores(frames)[0]

    def _scores(
        self, frames: Sequence[np.ndarray], sequences: Sequence[Mapping[str, np.ndarray]] = ()
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Probabilities `[clips, classes]`, and their spread over the reference graphs, if there are several."""
        if self.bundle.reads_nodes:
            return self._attach(frames, sequences)
        if self.bundle.reads_dialogue:  # each a conversation of its own
            turns = turns_of(self, frames, np.zeros(len(frames), dtype=np.int64))
            return probabilities(self, turns, [np.array([i]) for i in range(len(frames))]), None
        result = np.empty((len(frames), len(self.labels)), dtype=np.float32)
        # Clips of like length together: the batches are evenly filled, the order of the answers is restored.
        order = np.argsort([len(item) for item in frames], kind="stable")
        batch: list[int] = []
        held = 0
        for position in order:
            length = len(frames[position])
            # Spectrograms are stacked, so those of one batch have one length.
            other = self.bundle.reads_spectrogram and bool(batch) and length != len(frames[batch[0]])
            if batch and (other or held + length > self.frames_per_batch):
                result[batch] = self._forward([frames[i] for i in batch])
                batch, held = [], 0
            batch.append(int(position))
            held += length
        if batch:
            result[batch] = self._forward([frames[i] for i in batch])
        return result, None

    def standardized(self, frames: np.ndarray) -> Tensor:
        """Standardised frames `[frames, dims]`: the nodes of the graph, or all that a spectrogram network sees."""
        return torch.from_numpy(np.ascontiguousarray(self.bundle.standardizer(frames), dtype=np.float32))

    def vectors(self, frames: Sequence[np.ndarray]) -> Tensor:
        """Standardised vectors `[clips, dims]` of clips that have one each.

        Raises:
            GraphophoneError: If one has another number.
        """
        rows = [np.atleast_2d(item) for item in frames]
        if any(len(row) != 1 for row in rows):
            raise GraphophoneError(f"{self.bundle.model_name} takes one vector per recording; give each as [1, dims]")
        return self.standardized(np.concatenate(rows))

    def graph_of(self, frames: np.ndarray) -> Data:
        """The graph that a graph network sees: standardised `x` `[frames, dims]` and `edge_index` `[2, edges]`."""
        return self.bundle.graph(Data(x=self.standardized(frames)))

    def answer(self, frames: np.ndarray) -> Answer:
        """The answer for a clip that is frames already, `[frames, dims]` before standardisation."""
        probabilities, spread = self._scores([frames])
        return Answer(probabilities[0], None if spread is None else spread[0])

    def answer_to(self, heard: Heard) -> Answer:
        """The answer for one clip whose features are there.

        Raises:
            GraphophoneError: If they are not, or no network of the model reads what there is.
        """
        if heard.error is not None:
            raise heard.error
        ((item, answer),) = self._answer([heard])
        if answer is None:
            raise item.error if item.error is not None else GraphophoneError(f"{item.clip.name}: it is silent")
        return answer

    def answers(self, heard: Iterable[Heard]) -> Iterator[tuple[Heard, Answer | None]]:
        """Each clip with its answer, or None for a clip that failed, in bounded memory.

        Clips are collected until they fill two batches, answered together, and given back in their order.
        """
        pending: list[Heard] = []
        held = 0
        for item in heard:
            pending.append(item)
            held += 0 if item.frames is None else len(item.frames)
            if held >= 2 * self.frames_per_batch or len(pending) >= 512:
                yield from self._answer(pending)
                pending, held = [], 0
        yield from self._answer(pending)

    def tags(self, probabilities: np.ndarray) -> list[tuple[str, float]]:
        """The tags of one clip with probabilities `[classes]`, the likeliest first; see `top`, `tag_threshold`."""
        best = np.argsort(-probabilities, kind="stable")[: self.top]
        if self.tag_threshold is not None:
            best = best[probabilities[best] >= self.tag_threshold]
        return [(self.labels[i], float(probabilities[i])) for i in best]

    def row(self, probabilities: np.ndarray, spread: np.ndarray | None = None) -> dict[str, Any]:
        """`label`, `confidence`, `spread`, `tags` (if any) and `p_<class>` of one clip.

        Args:
            probabilities: `[classes]`.
            spread: Their spread over the reference graphs `[classes]`, for a model that has several.
        """
        best = int(np.argmax(probabilities))
        confidence = float(probabilities[best])
        sure = self.threshold is None or confidence >= self.threshold
        return {
            "label": self.labels[best] if sure else UNSURE,
            "confidence": confidence,
            **({} if spread is None else {"spread": float(spread[best])}),
            **({"tags": tags_text(self.tags(probabilities))} if self.gives_tags else {}),
            **{f"p_{name}": float(p) for name, p in zip(self.labels, probabilities, strict=True)},
        }

    def table(self, rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
        """Rows as a table; `columns`, then those of `row`, also when there are no rows."""
        classes = [f"p_{name}" for name in self.labels]
        tags = ["tags"] if self.gives_tags else []
        spread = ["spread"] if self.gives_spread else []
        frame = pd.DataFrame(rows, columns=[*columns, "label", "confidence", *spread, *tags, *classes])
        if tags:
            frame["tags"] = frame["tags"].fillna("").astype("str")
        return frame.astype(dict.fromkeys(["confidence", *spread, *classes], "float64"))

    def _one(self, clip: Clip) -> pd.DataFrame:
        heard = hear(clip, self.bundle.pipeline, self.max_duration)
        return self.collect([(heard, self.answer_to(heard))], [])

    def _many(self, clips: Sequence[Clip], *, failures: Iterable[Problem] = (), rows: bool = False) -> pd.DataFrame:
        heard = hear_many(clips, self.bundle.pipeline, self.max_duration, workers=self.workers, total=len(clips))
        return self.collect(
            track(self.answers(heard), "recognising", len(clips), show=self.progress and len(clips) > 1),
            failures,
            numbered=rows,
        )

    def collect(
        self,
        answered: Iterable[tuple[Heard, Answer | None]],
        failures: Iterable[Problem],
        *,
        numbered: bool = False,
        warnings: Iterable[Problem] = (),
    ) -> pd.DataFrame:
        """Clips with their answers as a table, those without one as problems.

        Args:
            answered: What `answers` gives.
            failures: Known already.
            numbered: Whether problems name the row of the clip.
            warnings: Known already.
        """
        failures, warnings = list(failures), list(warnings)
        rows: list[dict[str, Any]] = []
        index: list[int] = []
        for heard, answer in answered:
            clip = heard.clip
            row = clip.row if numbered else None
            if answer is None:
                failures.append(Problem(clip.name, row, heard.reason))
                continue
            warnings += [Problem(clip.name, row, note, severity="warning") for note in heard.notes]
            said = self.row(answer.probabilities, answer.spread)
            read = {"text": clip.text or None, "used": answer.used} if self.reads_text else {}
            rows.append({"file": clip.path, "start": heard.start, "end": heard.end, **read, **said})
            index.append(clip.row)
        for problem in (*failures, *warnings):
            logger.warning("%s: %s", problem.item, problem.reason)
        frame = self.table(rows, ("file", "start", "end", *(("text", "used") if self.reads_text else ())))
        frame.index = pd.Index(index, dtype="int64")
        frame.attrs = {"failures": failures, "warnings": warnings}
        return frame

    def _answer(self, items: Sequence[Heard]) -> Iterator[tuple[Heard, Answer | None]]:
        frames = [item.frames for item in items if item.frames is not None]
        sequences = [item.sequences for item in items if item.frames is not None]
        probabilities, spread = self._scores(frames, sequences) if frames else (np.zeros((0, 0)), None)
        used = self._used(frames)
        numbers = iter(range(len(frames)))
        for item in items:
            if item.frames is None:
                yield item, None
                continue
            i = next(numbers)
            if np.isnan(probabilities[i]).any():
                yield replace(item, frames=None, error=self._unreadable(item)), None
            else:
                yield item, Answer(probabilities[i], None if spread is None else spread[i], used[i])

    def _used(self, frames: Sequence[np.ndarray]) -> list[str]:
        """Which modalities the network reads that answers for each clip."""
        if not self.reads_text or not frames:
            return [""] * len(frames)
        if self.bundle.reads_dialogue:
            return used(turns_of(self, frames, np.zeros(len(frames), dtype=np.int64)))
        if self._bank is None:
            return ["text"] * len(frames)
        model: Any = self.model
        networks = model.routes()
        route = best_route(model, torch.from_numpy(np.concatenate([np.atleast_2d(item) for item in frames])))
        return [" and ".join(networks[name].needs) if name else "" for name in route]

    def _unreadable(self, item: Heard) -> GraphophoneError:
        """Why a clip has no answer, though it has features: it lacks a modality, and no network does without."""
        model: Any = self.bundle.model
        parts = split_modalities(torch.from_numpy(np.atleast_2d(cast(Any, item.frames))), model.widths)
        lacks = " and ".join(name for name, part in parts.items() if bool(part.isnan().any()))
        notes = "".join(f" ({note})" for note in item.notes if note.startswith("audio is left out"))
        return GraphophoneError(
            f"{item.clip.name}: it has no {lacks}{notes}, and the model holds no network that does without; give it, "
            "or train with model.alone true"
        )

    def require_sound_alone(self, what: str) -> None:
        """Refuse what gives sound without words to a model that cannot do without these.

        Args:
            what: Gives it, for the message.

        Raises:
            GraphophoneError: If no network of the model reads sound alone, or it answers for turns of conversations.
        """
        if self.bundle.reads_dialogue:
            raise GraphophoneError(
                f"{what}: {self.bundle.model_name} answers for the turns of a conversation, and pieces of a recording "
                "are none; name its turns with start and end in a table (predict --table)"
            )
        model: Any = self.model
        if not self.reads_text or (
            self._bank is not None and any(n.needs == ("audio",) for n in model.routes().values())
        ):
            return
        raise GraphophoneError(
            f"{what}: {self.bundle.model_name} needs what is said, and holds no network that does without; train with "
            "model.alone true, or answer for single utterances with their texts"
        )

    def _attach(
        self, frames: Sequence[np.ndarray], sequences: Sequence[Mapping[str, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """As `_scores`, for a network whose nodes are recordings: every clip on copies of the references of its own."""
        if not frames:
            return np.zeros((0, len(self.labels)), dtype=np.float32), None
        x = self.vectors(frames)
        if self._bank is not None:
            tokens = self.tokens(sequences, len(x))
            return self._bank.answer(x.to(self.device), sequences=tokens).probabilities.cpu().numpy(), None
        found = predict_attached(self.model, self.references, x, content_ids(x), **self.bundle.attachment)
        return found.probabilities.cpu().numpy(), found.spread.cpu().numpy() if self.gives_spread else None

    def tokens(self, sequences: Sequence[Mapping[str, np.ndarray]], clips: int) -> dict[str, Sequences] | None:
        """Token vectors of clips by modality, in half precision as in training; what a clip lacks is one zero.

        Raises:
            GraphophoneError: If the network attends over tokens, and there are none.
        """
        extractor = self.bundle.pipeline.extractor
        if not (isinstance(extractor, Modalities) and extractor.sequences):
            return None
        if len(sequences) != clips:
            raise GraphophoneError(
                f"{self.bundle.model_name} attends over tokens, and vectors alone do not tell them: give recordings "
                "and texts"
            )
        found = {}
        for name, width in extractor.widths.items():
            lacking = np.zeros((1, width), dtype=np.float16)
            arrays = [np.asarray(given.get(name, lacking), dtype=np.float16) for given in sequences]
            lengths = torch.tensor([len(array) for array in arrays], device=self.device)
            found[name] = Sequences(torch.from_numpy(np.concatenate(arrays)).to(self.device), lengths)
        return found

    @torch.inference_mode()
    def _forward(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        logits: Tensor
        if self.bundle.reads_spectrogram:
            logits = self.model(torch.stack([self.standardized(item) for item in frames]).to(self.device))
        else:
            # Each graph is built alone: a top-k choice between nearly equal similarities then never hangs on the
            # rounding of a larger matrix product, that is, on the clips beside it.
            batch: Any = Batch.from_data_list([self.graph_of(item) for item in frames]).to(self.device)
            logits = self.model(batch.x, batch.edge_index, batch.batch, len(frames))
        return self.bundle.probabilities(logits.float()).cpu().numpy()


def tags_text(tags: Iterable[tuple[str, float]]) -> str:
    """Tags and their probabilities as one text: `"dog 0.93; bark 0.81"`."""
    return "; ".join(f"{name} {probability:.2f}" for name, probability in tags)


def _words(value: Any) -> str | None:
    """A text of a table; None where the field is empty."""
    return str(value) if isinstance(value, str | Path) and str(value).strip() else None


def _seconds(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)
