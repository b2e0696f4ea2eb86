"""The model card: a README with Hugging Face front matter that says what a model is, and what it is not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from huggingface_hub import EvalResult, ModelCardData

from graphophone.features.modalities import Modalities
from graphophone.graphs.attachment import chance_of_true_label
from graphophone.inference.references import distinct
from graphophone.models.dialogue import DialogueClassifier

if TYPE_CHECKING:
    from graphophone.inference.bundle import Bundle

_MEASURES = {
    "ua": "Unweighted accuracy (mean recall of the classes)",
    "wa": "Weighted accuracy (share of right answers)",
    "map": "Mean average precision (mean over the tags)",
    "mauc": "Area under the ROC curve (mean over the tags)",
    "dprime": "d' (of the mean area under the ROC curve)",
    "lwlrap": "Label-weighted label-ranking average precision",
    "weighted_f1": "Weighted F1",
    "micro_f1": "Micro F1",
    "macro_f1": "Macro F1",
    "ece": "Expected calibration error",
}
_PLAIN = frozenset({"map", "mauc", "dprime", "lwlrap", "ece"})
"""Measures that are usually given as they are, and not in percent."""

_MOST_NAMED = 20
_VOICE = frozenset({"functionals165", "egemaps", "is10"})
"""Features of voices; others are of any sound."""

_EXTRAS = {"minilm": "minilm", "text_encoder": "transformers", "speech_encoder": "transformers"}
"""What must be installed beside the package for an extractor."""

_TAGS = ("audio-classification", "graph-neural-network", "graphophone")

_SPEECH_USE = (
    "Research on speech emotion, and measuring tendencies over many recordings that resemble the training corpus. "
    "The answer describes how an utterance sounds, not what a person feels. Do not use it to decide about a person "
    "(hiring, credit, policing, medicine)."
)
_SOUND_USE = (
    "Naming and searching sounds in recordings that resemble the training corpus. The answer is a guess from the sound "
    "alone: do not let safety depend on it, and do not use it to watch people."
)
_SPEECH_LIMITS = (
    "Other languages, acted against spontaneous speech, other microphones, noise and overlapping speakers all lower "
    "the accuracy below the figures above.",
    "The model always chooses one of its labels. A confidence threshold (`threshold=`) makes it say *unsure* "
    "instead; choose the threshold on recordings of your own.",
    "Recordings longer than an utterance hold more than one answer: use `graphophone.timeline`.",
)
_CONVERSATION_LIMITS = (
    *_SPEECH_LIMITS[:-1],
    "It hears turns, and finds none itself: who speaks from when to when must be given with a recording. Words that "
    "were recognised wrongly, and speakers taken for each other, lower the accuracy below the figures above.",
)
_SOUND_LIMITS = (
    "Other microphones, noise, and sounds that cover each other all lower the accuracy below the figures above.",
    "The model always chooses one of its labels. A confidence threshold (`threshold=`) makes it say *unsure* "
    "instead; choose the threshold on recordings of your own.",
)
_TAGGING_LIMITS = (
    "Other microphones, noise, and sounds that cover each other all lower the accuracy below the figures above.",
    "The probability of a tag is not calibrated: rare tags stay far below 0.5 when they are heard. Choose a threshold "
    "for each tag that matters on recordings of your own.",
    "A sound that is not among the tags is not heard, or is taken for a similar one.",
)


def to_jsonable(value: Any) -> Any:
    """`value` in JSON's types: dataclasses become objects, numpy and torch numbers numbers, NaN becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_jsonable({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy arrays and numbers, tensors
        return to_jsonable(value.tolist())
    if isinstance(value, Sequence | set | frozenset):
        return [to_jsonable(item) for item in value]
    return str(value)


def model_card(
    bundle: Bundle,
    *,
    title: str | None = None,
    license: str = "other",
    intended_use: str | None = None,
    limits: Sequence[str] = (),
    language: str | Sequence[str] | None = None,
    tags: Sequence[str] = (),
    weights: str | None = None,
) -> str:
    """Text of the README of a model folder.

    Args:
        bundle: The model, with whatever is known of its corpus, protocol and results.
        title: Heading; model and corpus if absent.
        license: Identifier of the hub. Weights inherit obligations from the corpus, hence "other" by default.
        intended_use: Paragraph; one that fits the kind of model if absent.
        limits: Sentences added to those that hold for every such model.
        language: Language codes of the speech, `"en"`.
        tags: More tags for the hub.
        weights: Sentence on where these weights come from (fold, seed, training items), for a model whose
            results are those of an evaluation over several trainings.

    Returns:
        Markdown with YAML front matter.
    """
    corpus, protocol = bundle.corpus, bundle.protocol
    title = title or " on ".join([type(bundle.model).__name__, *([str(corpus["name"])] if corpus.get("name") else [])])
    scores = _scores(bundle.metrics)
    data = ModelCardData(
        library_name="graphophone",
        license=license,
        language=[language] if isinstance(language, str) else list(language) if language else None,
        pipeline_tag="audio-classification",
        tags=list(dict.fromkeys([*_TAGS, *_kind_tags(bundle), bundle.model_name, *tags])),
        metrics=list(scores) or None,
        model_name=title if scores else None,
        eval_results=[
            EvalResult(
                task_type="audio-classification",
                dataset_type=str(corpus.get("name", "unknown")),
                dataset_name=str(corpus.get("name", "unknown")),
                metric_type=name,
                metric_name=_MEASURES[name],
                metric_value=round(mean, 4),
            )
            for name, (mean, _) in scores.items()
        ]
        or None,
    )
    parameters = sum(p.numel() for p in bundle.model.parameters())
    sections = [
        f"# {title}",
        _what(bundle, parameters),
        "## How to use",
        _use(bundle),
        _gaps(bundle),
        _metadata(bundle.pipeline.metadata),
        _needs(bundle),
        "## Intended use",
        intended_use or (_SPEECH_USE if _is_speech(bundle) else _SOUND_USE),
        "## Data",
        _data(corpus, "turns" if bundle.reads_dialogue else "recordings"),
        _held(bundle),
        "## Evaluation",
        _protocol(protocol),
        _results(scores),
        _weights(weights, bool(scores)),
        "## Limits",
        "\n".join(f"- {limit}" for limit in (*limits, *_limits(bundle))),
    ]
    citation = corpus.get("citation")
    if citation:
        sections += ["## Citation of the data", str(citation)]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def _kind_tags(bundle: Bundle) -> list[str]:
    if bundle.kind == "tagging":
        return ["audio-tagging"]
    return ["speech-emotion-recognition"] if _is_speech(bundle) else []


def _is_speech(bundle: Bundle) -> bool:
    """Whether it was made for speech: a model of frames, or one of recordings that are described as voices are."""
    if not bundle.reads_nodes:
        return not bundle.reads_spectrogram
    if bundle.pipeline.extractor.reads in ("text", "modalities"):
        return True
    return bool(bundle.corpus.get("languages")) or bundle.pipeline.extractor.name in _VOICE


def _limits(bundle: Bundle) -> tuple[str, ...]:
    """What holds for every model of its kind."""
    if bundle.kind == "tagging":
        limits: tuple[str, ...] = _TAGGING_LIMITS
    elif bundle.reads_dialogue:
        limits = _CONVERSATION_LIMITS
    else:
        limits = _SPEECH_LIMITS if _is_speech(bundle) else _SOUND_LIMITS
    if bundle.clip_seconds is None:
        return limits
    return (
        *limits,
        f"It hears the first {bundle.clip_seconds:.1f} s of a recording: use `graphophone.timeline` for longer ones.",
    )


def _what(bundle: Bundle, parameters: int) -> str:
    """What the model hears, and with what."""
    front = _front(bundle)
    network = f"(`{bundle.model_name}`, {parameters:,} parameters)"
    if bundle.kind == "tagging":
        labels = bundle.labels
        named = _series(labels) if len(labels) <= _MOST_NAMED else f"{', '.join(labels[:_MOST_NAMED])} and others"
        begin = f"Audio-tagging model of the graphophone library. It gives each of {len(labels)} tags ({named}) a"
        begin += " probability of its own"
    else:
        kind = "Speech-emotion" if _is_speech(bundle) else "Audio-classification"
        begin = f"{kind} model of the graphophone library. It hears {_series(bundle.labels)}"
    if bundle.reads_spectrogram:
        return (
            f"{begin}: a network {network} on spectrograms of {bundle.pipeline.frames} frames "
            f"({bundle.clip_seconds:.1f} s) of {front}."
        )
    if bundle.reads_dialogue:
        future = cast(DialogueClassifier, bundle.model).future
        heard = {None: "from the whole conversation", 0: "from the turns up to it"}.get(
            future, f"from earlier turns and the next {future}"
        )
        begin += f" in the turns of conversations: a network {network} that answers for each turn {heard}"
        return f"{begin}, by {front}."
    if bundle.reads_nodes:
        begin += f": a graph neural network {network} whose nodes are recordings, each with {front}."
        return f"{begin} {_attached(bundle)}"
    return (
        f"{begin}: a graph neural network {network} over a graph of `{bundle.graph.config['name']}` edges between "
        f"frames of {front}."
    )


def _front(bundle: Bundle) -> str:
    """The features in words."""
    extractor = bundle.pipeline.extractor
    if isinstance(extractor, Modalities):
        parts = [f"{name} (`{part.name}`, {part.dims} columns)" for name, part in extractor.parts.items()]
        return f"features of {_series(parts)}"
    return f"`{extractor.name}` features ({bundle.pipeline.dims} columns)"


def _use(bundle: Bundle) -> str:
    """How to ask the model, in code and on the command line."""
    extractor = bundle.pipeline.extractor
    parts = list(extractor.parts.values()) if isinstance(extractor, Modalities) else [extractor]
    if all(part.reads == "corpus" for part in parts):
        return (
            "Its vectors came with the corpus: no recording or text can be turned into such. "
            f"`recognizer.probabilities(rows)` answers for rows `[1, {extractor.dims}]` of them."
        )
    if bundle.reads_dialogue:
        return _use_of_turns(cast(DialogueClassifier, bundle.model).future == 0)
    said = ', text="Where have you been?"' if extractor.reads == "modalities" else ""
    words = ' --text "Where have you been?"' if said else ""
    call, words = f'process_file("one.wav"{said})', f"one.wav{words}"
    if extractor.reads == "text":
        call, words = 'process_text("Where have you been?")', '--text "Where have you been?"'
    return (
        "```python\nimport graphophone as gp\n\n"
        'recognizer = gp.Recognizer.from_pretrained("path/to/this/folder")\n'
        f"print(recognizer.{call})\n```\n\n"
        f"or on the command line: `graphophone predict path/to/this/folder {words}`."
    )


def _use_of_turns(causal: bool) -> str:
    """How to ask a model that hears conversations."""
    online, option = (", online=True", " --online") if causal else ("", "")
    return (
        "```python\nimport graphophone as gp\n\n"
        'recognizer = gp.Recognizer.from_pretrained("path/to/this/folder")\n'
        f'print(recognizer.process_conversation("turns.csv"{online}))\n```\n\n'
        f"or on the command line: `graphophone predict path/to/this/folder --table turns.csv{option}`. The table has a "
        "row per turn: `dialogue`, `speaker`, `text`, and `audio`, or `recording` with `start` and `end` in seconds. "
        "What a turn lacks is left out."
    )


def _gaps(bundle: Bundle) -> str:
    """What becomes of utterances that lack text or sound, for a model of both."""
    model: Any = bundle.model
    if not bundle.has_bank or len(model.needs) < 2:
        return ""
    if len(model.routes()) > 1:
        return (
            "An utterance that lacks its text or its recording is answered for by a network of the other alone, which "
            "the folder holds too; the column `used` of the answers says so."
        )
    return "It needs both: an utterance that lacks its text or its recording has no answer."


def _attached(bundle: Bundle) -> str:
    """How a model whose nodes are recordings answers."""
    if bundle.attachment["how"] == "none":
        return "The graph was there for training; a new recording is attached to no other, and answered for by itself."
    if bundle.has_bank:
        return (
            f"A new one becomes a node beside {len(bundle.references[0].x)} known ones, with edges from its nearest "
            "among them in each modality that it has. Others that are asked for change nothing."
        )
    graphs, edges = len(bundle.references), bundle.attachment["edges"]
    sizes = [len(graph.x) for graph in bundle.references]
    nodes = str(sizes[0]) if len(set(sizes)) == 1 else f"{min(sizes)} to {max(sizes)}"
    true = sum(int((graph.y >= 0).sum()) for graph in bundle.references) / sum(sizes)
    known = f"{nodes} known recordings ({100 * true:.0f} % of them with a true label, the others with a predicted one)"
    if bundle.attachment["how"] == "nearest":
        chosen = f"the {edges} that are nearest"
    else:
        counts = [int((graph.y >= 0).sum()) for graph in bundle.references]
        chances = [chance_of_true_label(edges, n, size - n) for n, size in zip(counts, sizes, strict=True)]
        chosen = (
            f"{edges} drawn by lot, the same ones whenever its features are the same (with a true label among them in "
            f"{100 * sum(chances) / len(chances):.0f} % of the draws)"
        )
    text = f"A recording is attached to a copy of its own of a graph of {known}: to {chosen}."
    if graphs > 1:
        text += (
            f" Its answer is the mean over {graphs} such graphs; the column `spread` of the answers is the standard "
            "deviation of the confidence over them."
        )
    return f"{text} Other recordings that are asked for change nothing."


def _held(bundle: Bundle) -> str:
    """What a model folder holds of the recordings it was trained on, and how large it is."""
    if not bundle.reads_nodes:
        return ""
    size = "" if bundle.size is None else f" All that an answer needs takes {bundle.size / 1e6:.2f} MB."
    if not bundle.references:
        return f"This folder holds nothing of single training recordings, neither sound nor features.{size}"
    recordings, true = distinct(bundle.references)
    return (
        f"This folder holds the features (not the sound) of {recordings} training recordings, {true} of them with a "
        f"true label. Whoever may not pass these on may not pass on the folder.{size}"
    )


def _scores(metrics: Mapping[str, Any]) -> dict[str, tuple[float, tuple[float, float, int] | None]]:
    """Known measures as mean and, where given, interval with the number of values behind it."""
    if isinstance(metrics.get("test"), Mapping):
        metrics = metrics["test"]
    found: dict[str, tuple[float, tuple[float, float, int] | None]] = {}
    for name in _MEASURES:
        value = metrics.get(name)
        if isinstance(value, Mapping) and value.get("mean") is not None:
            low, high = value.get("low"), value.get("high")
            bounds = None if low is None or high is None else (float(low), float(high), int(value.get("n") or 0))
            found[name] = (float(value["mean"]), bounds)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = (float(value), None)
    return found


def _metadata(names: Sequence[str]) -> str:
    """What to do about columns that cannot be heard."""
    if not names:
        return ""
    given = ", ".join(f'"{name}": 1' for name in names)
    return (
        f"Besides the sound the model reads {_series([f'`{name}`' for name in names])}, known of each recording of its "
        "corpus. On the command line each is taken as 0; from Python it can be given: "
        f'`recognizer.process_file("one.wav", metadata={{{given}}})`.'
    )


def _weights(sentence: str | None, scores: bool) -> str:
    """Where the weights come from, and that the results are not theirs alone."""
    if not sentence:
        return ""
    if not scores:
        return sentence
    return (
        f"{sentence}\n\nThe results above are those of the whole evaluation, over all its folds and seeds, and not of "
        "these weights alone."
    )


def _needs(bundle: Bundle) -> str:
    """What must be installed, and under which terms."""
    extractor = bundle.pipeline.extractor
    parts = list(extractor.parts.values()) if isinstance(extractor, Modalities) else [extractor]
    extras = [_EXTRAS[part.name] for part in parts if part.name in _EXTRAS]
    smile = any("opensmile" in part.backend() for part in parts)
    names = ",".join(dict.fromkeys([*(["opensmile"] if smile else []), *extras]))
    text = f"It needs `pip install 'graphophone[{names}]'`" if names else "It needs `pip install graphophone`"
    if not smile:
        return f"{text}."
    which = "the features" if len(parts) == 1 else "features"
    return f"{text}: {which} are computed by openSMILE, which is under a research, non-commercial licence."


def _series(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _data(corpus: Mapping[str, Any], items: str = "recordings") -> str:
    if not corpus:
        return "Not stated."
    name = str(corpus.get("name", "A corpus"))
    url = corpus.get("url")
    facts = [
        f"{corpus['items']:,} {items}" if isinstance(corpus.get("items"), int) else "",
        f"{corpus['unlabelled']:,} of them without label" if corpus.get("unlabelled") else "",
        f"{corpus['hours']:.1f} hours" if isinstance(corpus.get("hours"), int | float) else "",
        f"{_count(corpus['speakers'])} speakers" if corpus.get("speakers") else "",
        f"languages: {_words(corpus['languages'])}" if corpus.get("languages") else "",
        f"licence of the data: {corpus['licence']}" if corpus.get("licence") else "",
    ]
    link = f"[{name}]({url})" if url else name
    stated = ", ".join(fact for fact in facts if fact)
    return f"{link}: {stated}." if stated else f"{link}."


def _words(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(map(str, value))


def _count(value: Any) -> int:
    return value if isinstance(value, int) else len(value)


def _protocol(protocol: Mapping[str, Any]) -> str:
    if not protocol:
        return "Not stated."
    text = str(protocol.get("description") or protocol.get("name") or "").strip()
    mixes = protocol.get("mixes_speakers")
    if mixes:
        text += (
            "\n\n**Speakers of the test part were also heard in training.** Expect lower figures for people whom the "
            "model has never heard."
        )
    elif mixes is False:
        text += "\n\nNo speaker of the test part was heard in training."
    return text


def _results(scores: Mapping[str, tuple[float, tuple[float, float, int] | None]]) -> str:
    if not scores:
        return ""
    rows = ["| measure | value | 95 % interval |", "| --- | --- | --- |"]
    for name, (mean, bounds) in scores.items():
        scale, unit = (1.0, "") if name in _PLAIN else (100.0, " %")
        digits = 3 if name in _PLAIN else 1
        interval = "not known"
        if bounds is not None:
            low, high, n = bounds
            interval = f"{scale * low:.{digits}f} to {scale * high:.{digits}f}{f' (n = {n})' if n else ''}"
        rows.append(f"| {_MEASURES[name]} | {scale * mean:.{digits}f}{unit} | {interval} |")
    return "\n".join(rows)
