"""What the test part of a split has in common with the training part, and what is known without listening.

A result on a test part is worth what is new in it: speakers, conversations, recordings and words that training has
heard make it look better than it is. And where the words alone tell the class, or say nothing about it, a model of
sound and text is to be read in that light.
"""

from __future__ import annotations

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


def overlap_words(found: dict[str, Any]) -> list[str]:
    """What :func:`overlap` found, in sentences for a report."""
    part, items = found["part"], found["items"]
    told = []
    for column, numbers in found["shared"].items():
        one, several = SHARED[column]
        if not numbers["values"]:
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


def _text_in_words(found: dict[str, Any]) -> list[str]:
    text = found["text_alone"]
    if text is None:
        return []
    told = [
        "To answer with the class that a transcript most often has in training (the most frequent class, if it is not "
        f"there) gives {_worth_in_words(text)}."
    ]
    if text["bits"] is None:
        return told
    if text["bits"] <= _NOTHING * text["label_bits"]:
        told.append(
            f"Beyond chance, the {text['transcripts']:,} different transcripts of training tell nothing of the class: "
            "nothing is to be gained from these words."
            if 2 * text["repeated"] > found["training_items"]
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


def _worth_in_words(numbers: dict[str, Any]) -> str:
    return (
        f"accuracy {100 * numbers['accuracy']:.1f}, UA {100 * numbers['ua']:.1f}, weighted F1 "
        f"{100 * numbers['weighted_f1']:.1f}"
    )
