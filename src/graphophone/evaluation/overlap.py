"""What the test part of a split has in common with the training part, and what is known without listening.

A result on a test part is worth what is new in it: speakers, conversations, recordings and words that training has
heard make it look better than it is. And where the words alone tell the class, or say nothing about it, a model of
sound and text is to be read in that light.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score, mutual_info_score, recall_score
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

from graphophone.corpora.transcripts import normalise

if TYPE_CHECKING:
    from graphophone.corpora.base import Corpus
    from graphophone.evaluation.protocols import Split

SHARED = {
    "speaker": ("speaker", "speakers"),
    "dialogue": ("dialogue", "dialogues"),
    "source": ("original recording", "original recordings"),
    "episode": ("episode", "episodes"),
    "audio": ("file", "files"),
}
"""Columns whose values in test are looked for in training, and what one and several of them are called."""
_NOTHING = 0.005
"""Share of what is to be known of the class, below which a transcript is said to tell nothing."""


def overlap(corpus: Corpus, split: Split, part: Literal["test", "validation"] = "test") -> dict[str, Any]:
    """What a part of a split shares with what was learned from, and simple answers to compare results with.

    Training items whose label is withheld count as learned from, except where their label would be needed.

    Args:
        corpus: The corpus.
        split: A split of it.
        part: The part to look at.

    Returns:
        A dictionary fit for JSON:

        * ``split``, ``part``, ``items`` (of the part), ``training_items``;
        * ``shared``: for each of ``speaker``, ``dialogue``, ``source``, ``episode`` and ``audio`` that the corpus knows
          ``values`` (in the part), ``shared`` (of them, in training too) and ``items`` (of the part, with these);
        * ``transcripts``: ``items`` that have one, ``verbatim`` and ``normalised``: those whose transcript training
          has too, as it is and up to case, punctuation and accents. None where there are no transcripts;
        * ``majority``: ``class``, the most frequent in training, and what it is worth to answer nothing else
          (``accuracy``, ``ua``, ``weighted_f1``). None where items have several labels;
        * ``text_alone``: what normalised transcripts tell of the class. ``transcripts`` (different ones in training)
          and ``repeated`` (training items whose transcript another one has); ``label_bits``, the entropy of the class
          in training, and ``bits``, how much less it is once the transcript is known, beyond what as many transcripts
          would tell by chance (mutual information less its expectation under permutation; Vinh, Epps and Bailey, 2010;
          None where no transcript is there twice); ``accuracy``, ``ua`` and ``weighted_f1`` of answering with the
          class that a transcript most often has in training, or the most frequent one if it is not there. None where
          there are no transcripts, or several labels.
    """
    rows = np.asarray(getattr(split, part))
    learned = np.concatenate([split.train, split.unlabelled])
    table = corpus.table
    answers = None if corpus.multi_label else _majority(corpus, split.train, rows)
    return {
        "split": split.name,
        "part": part,
        "items": len(rows),
        "training_items": len(learned),
        "shared": {name: _shared(table[name], learned, rows) for name in SHARED if name in table},
        "transcripts": _transcripts(table["text"], learned, rows) if _has_text(table, rows) else None,
        "majority": answers,
        "text_alone": _text_alone(corpus, split.train, rows) if answers and _has_text(table, rows) else None,
    }


def overlaps(corpus: Corpus, splits: Mapping[int, Sequence[Split]]) -> list[dict[str, Any]]:
    """:func:`overlap` of the test parts of all splits of all seeds, those that are alike once, with their ``seeds``.

    Args:
        corpus: The corpus.
        splits: Splits of every seed.
    """
    found: dict[str, list[int]] = {}
    for seed, own in splits.items():
        for split in own:
            if len(split.test):
                found.setdefault(json.dumps(overlap(corpus, split)), []).append(seed)
    return [{**json.loads(facts), "seeds": seeds} for facts, seeds in found.items()]


def _has_text(table: pd.DataFrame, rows: np.ndarray) -> bool:
    return "text" in table and bool((table["text"].iloc[rows] != "").any())


def _shared(values: pd.Series, learned: np.ndarray, rows: np.ndarray) -> dict[str, int]:
    """Different values in a part, those of them that training has, and how many items are of these."""
    tested = values.iloc[rows]
    tested = tested[tested.notna() & (tested.astype(str) != "")]
    known = tested.isin(set(values.iloc[learned]))
    return {"values": tested.nunique(), "shared": tested[known].nunique(), "items": int(known.sum())}


def _transcripts(texts: pd.Series, learned: np.ndarray, rows: np.ndarray) -> dict[str, int]:
    """Items with a transcript, and those whose transcript is in training, word for word and nearly so."""
    tested = texts.iloc[rows]
    tested = tested[tested != ""]
    return {
        "items": len(tested),
        "verbatim": int(tested.isin(set(texts.iloc[learned])).sum()),
        "normalised": int(_said(tested).isin(set(_said(texts.iloc[learned]))).sum()),
    }


def _said(texts: pd.Series) -> pd.Series:
    """Normalised transcripts; one that is nothing but marks stays as it is."""
    return texts.map({text: normalise(text) or text for text in texts.unique()})


def _majority(corpus: Corpus, train: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """The most frequent class of training, and what it is worth as the only answer."""
    counts = np.bincount(corpus.targets[train], minlength=len(corpus.classes))
    most = int(counts.argmax())
    return {"class": corpus.classes[most], **_worth(corpus.targets[rows], np.full(len(rows), most))}


def _worth(target: np.ndarray, answer: np.ndarray) -> dict[str, float]:
    occurring = np.unique(target)
    return {
        "accuracy": float(accuracy_score(target, answer)),
        "ua": float(recall_score(target, answer, labels=occurring, average="macro", zero_division=0.0)),
        "weighted_f1": float(f1_score(target, answer, average="weighted", zero_division=0.0)),
    }


def _text_alone(corpus: Corpus, train: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """What transcripts tell of the class: see :func:`overlap`."""
    targets = corpus.targets
    texts = _said(corpus.table["text"])
    have = train[(texts.iloc[train] != "").to_numpy()]
    known = pd.DataFrame({"text": texts.iloc[have].to_numpy(), "target": targets[have]})
    times = known.groupby("text")["target"].transform("size")
    prior = np.bincount(targets[train], minlength=len(corpus.classes))
    # For each transcript its most frequent class; between equals the one that is more frequent overall.
    pairs = known.value_counts().rename("count").reset_index()
    pairs["prior"] = prior[pairs["target"]]
    best = pairs.sort_values(["count", "prior"], ascending=False).drop_duplicates("text").set_index("text")["target"]
    answer = texts.iloc[rows].map(best).fillna(int(prior.argmax())).to_numpy(dtype=np.int64)
    shares = np.bincount(known["target"]) / max(1, len(known))
    shares = shares[shares > 0]
    repeated = int((times > 1).sum())
    return {
        "transcripts": known["text"].nunique(),
        "repeated": repeated,
        "label_bits": float(-(shares * np.log2(shares)).sum()),
        "bits": _bits(known) if repeated else None,
        **_worth(targets[rows], answer),
    }


def _bits(known: pd.DataFrame) -> float:
    """Mutual information of transcript and class beyond chance, in bits, at least 0."""
    table = contingency_matrix(known["text"], known["target"], sparse=True, dtype=np.int64)
    found = mutual_info_score(None, None, contingency=table)
    expected = expected_mutual_information(table, len(known))
    return max(0.0, float(found - expected) / np.log(2))


def overlap_words(found: Mapping[str, Any]) -> list[str]:
    """What :func:`overlap` found, in sentences for a report."""
    part, items = found["part"], found["items"]
    told = []
    for column, numbers in found["shared"].items():
        one, several = SHARED[column]
        if not numbers["values"] or _own_file(column, numbers, items):
            continue
        if not numbers["shared"]:
            told.append(f"No {one} of the {part} part is in training.")
            continue
        of = "All" if numbers["shared"] == numbers["values"] else f"{numbers['shared']:,} of"
        told.append(
            f"{of} {numbers['values']:,} {one if numbers['values'] == 1 else several} of the {part} part "
            f"{'is' if numbers['shared'] == 1 else 'are'} also in training: {_share(numbers['items'], items)}."
        )
    transcripts = found["transcripts"]
    if transcripts is not None:
        told.append(
            f"{_share(transcripts['verbatim'], items)} have a transcript that a training item has too, word for word; "
            f"up to case, punctuation and accents {transcripts['normalised']:,}."
            if transcripts["normalised"]
            else f"No transcript of the {part} part is in training."
        )
    majority = found["majority"]
    if majority is not None:
        told.append(
            f"To answer {majority['class']} always, which training has most of, gives {_worth_in_words(majority)}."
        )
    told += _text_in_words(found)
    return told


def _own_file(column: str, numbers: Mapping[str, int], items: int) -> bool:
    """Whether every item is a file of its own, of which nothing is to be said."""
    return column == "audio" and not numbers["shared"] and numbers["values"] == items


def overlap_words_of_all(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What :func:`overlaps` found, in sentences for a report; of several splits what is in common to them."""
    if len(found) == 1:
        return overlap_words(found[0])
    told = []
    count = len(found)
    for column, (one, several) in SHARED.items():
        numbers = [(each["shared"][column], each["items"]) for each in found if column in each["shared"]]
        if not any(n["values"] for n, _ in numbers) or all(_own_file(column, n, items) for n, items in numbers):
            continue
        if not any(n["shared"] for n, _ in numbers):
            told.append(f"In none of the {count} splits is a {one} of the test part in training.")
            continue
        shares = [n["items"] / max(1, items) for n, items in numbers]
        told.append(
            f"Of the {several} of a test part, some are also in training in {sum(s > 0 for s in shares)} of {count} "
            f"splits: {_range(shares)} of the test items are theirs."
        )
    texts = [(each["transcripts"], max(1, each["items"])) for each in found if each["transcripts"]]
    if texts:
        verbatim, normalised = ([t[kind] / items for t, items in texts] for kind in ("verbatim", "normalised"))
        told.append(
            f"{_range(verbatim)} of the test items have a transcript that a training item has too, word for word; up "
            f"to case, punctuation and accents {_range(normalised)}."
            if any(normalised)
            else "In no split is a transcript of the test part in training."
        )
    majority = [each["majority"] for each in found if each["majority"]]
    if majority:
        told.append(
            "To answer the class that training has most of always gives "
            f"{_worth_in_words(_mean_worth(majority))} (mean over the splits)."
        )
    text = [each for each in found if each["text_alone"]]
    if text:
        told.append(
            "To answer with the class that a transcript most often has in training (the most frequent class, if it is "
            f"not there) gives {_worth_in_words(_mean_worth([each['text_alone'] for each in text]))}."
        )
        if len(text) == count and all(silent(each) for each in text):
            told.append(
                "In every split the transcripts of training tell nothing of the class beyond chance: nothing is to be "
                "gained from these words."
            )
    return told


def baselines(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """What simple answers are worth, means over splits: ``majority`` and, where there are transcripts, ``transcript``.

    Args:
        found: What :func:`overlaps` gave.

    Returns:
        To each ``accuracy``, ``ua`` and ``weighted_f1``, fractions; empty where items have several labels.
    """
    kinds = {"majority": "majority", "transcript": "text_alone"}
    known = {name: [each[key] for each in found if each[key]] for name, key in kinds.items()}
    return {name: _mean_worth(worth) for name, worth in known.items() if worth}


def silent(found: Mapping[str, Any]) -> bool:
    """Whether transcripts tell nothing of the class, and most training items share theirs, so that this is known."""
    text = found["text_alone"]
    return bool(text) and _nothing(text) and 2 * text["repeated"] > found["training_items"]


def _nothing(text: Mapping[str, Any]) -> bool:
    return text["bits"] is not None and text["bits"] <= _NOTHING * text["label_bits"]


def _mean_worth(worth: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([each[key] for each in worth])) for key in ("accuracy", "ua", "weighted_f1")}


def _range(shares: Sequence[float]) -> str:
    low, high = f"{100 * min(shares):.1f}", f"{100 * max(shares):.1f}"
    return f"{low} %" if low == high else f"{low} to {high} %"


def _text_in_words(found: Mapping[str, Any]) -> list[str]:
    text = found["text_alone"]
    if text is None:
        return []
    told = [
        "To answer with the class that a transcript most often has in training (the most frequent class, if it is not "
        f"there) gives {_worth_in_words(text)}."
    ]
    if text["bits"] is None:
        return told
    if _nothing(text):
        told.append(
            f"Beyond chance, the {text['transcripts']:,} different transcripts of training tell nothing of the class: "
            "nothing is to be gained from these words."
            if silent(found)
            else "The transcripts that occur more than once in training tell nothing of the class beyond chance."
        )
    else:
        told.append(
            f"Knowing the transcript makes the class of a training item {text['bits']:.2f} bits more certain, of "
            f"{text['label_bits']:.2f}, beyond what as many transcripts would do by chance; {text['repeated']:,} "
            "items share theirs."
        )
    return told


def _share(number: int, of: int) -> str:
    return f"{number:,} of {of:,} items ({number / max(1, of):.1%})"


def _worth_in_words(numbers: Mapping[str, Any]) -> str:
    return (
        f"accuracy {100 * numbers['accuracy']:.1f}, UA {100 * numbers['ua']:.1f}, weighted F1 "
        f"{100 * numbers['weighted_f1']:.1f}"
    )
