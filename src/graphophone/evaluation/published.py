"""Published figures, as data, and in words what sets a run apart from them.

The numbers are those of Li, Wang, Yang and Im (2023), "Speech emotion recognition based on Graph-LSTM neural
network", Tables 1 to 4, all on IEMOCAP with one random 8:2 split that mixes speakers and no validation set;
and of simple systems (functionals and a support vector machine) on the RAVDESS folds that this package uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

GLNN_PAPER = "Li et al. (2023)"


@dataclass(frozen=True)
class Published:
    """One result that somebody else reports, or a simple system to beat.

    Attributes:
        system: Name of the system, with its variant.
        source: Where the number stands.
        corpus: Name of the corpus in the registry.
        items: Number of utterances.
        classes: Number of classes.
        protocol: How the items were divided, in words that follow "is".
        mixes_speakers: Whether test speakers were also training speakers.
        ua: Unweighted accuracy in percent, None where it is not reported.
        wa: Weighted accuracy in percent, None where it is not reported.
        model: Name of the model in the registry, where this package has it.
        variant: Settings that tell rows of the same system apart: ``pooling``, ``num_layers``, ``k``.
        parameters: Number of weights, as reported.
        folds: Number of folds; 1 for a single split.
        validation: Whether there was a validation set.
        kind: ``"published"``, or ``"reference"`` for a simple system measured on the same files.
        note: What else a reader should know, a sentence.
        ablation: Whether the row is one of a series of variants rather than a main result.
    """

    system: str
    source: str
    corpus: str
    items: int
    classes: int
    protocol: str
    mixes_speakers: bool
    ua: float | None
    wa: float | None
    model: str | None = None
    variant: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    folds: int = 1
    validation: bool = False
    kind: Literal["published", "reference"] = "published"
    note: str = ""
    ablation: bool = False


@dataclass(frozen=True)
class Beside:
    """A published result beside a run.

    Attributes:
        result: The published result.
        difference: What differs between it and the run, a sentence or several.
        comparable: Whether data, classes and handling of speakers are the same, so that the numbers may be
            compared.
    """

    result: Published
    difference: str
    comparable: bool


def _iemocap(system: str, items: int, table: int, ua: float | None, wa: float, **more: Any) -> Published:
    return Published(
        system=system,
        source=f"{GLNN_PAPER}, Table {table}",
        corpus="iemocap",
        items=items,
        classes=4,
        protocol="one random 8:2 split",
        mixes_speakers=True,
        ua=ua,
        wa=wa,
        **more,
    )


def _glnn(items: int, table: int, ua: float, wa: float, *, ablation: bool = True, **more: Any) -> Published:
    variant = {"pooling": "mean", "num_layers": 3, "k": 10, **more.pop("variant", {})}
    parts = [f"{variant['pooling']} pooling"]
    if variant["num_layers"] != 3:
        parts.append(f"{variant['num_layers']} layers")
    if variant["k"] != 10:
        parts.append(f"k = {variant['k']}")
    return _iemocap(
        f"GLNN, {', '.join(parts)}", items, table, ua, wa,
        model="glnn", variant=variant, ablation=ablation, **more,
    )  # fmt: skip


_COPIED = (
    "The paper gives the UA and WA of this row again, in Table 4, as the UA of max and of sum pooling: a "
    "likely copying error."
)

PUBLISHED: tuple[Published, ...] = (
    # Table 1, label set of 4490 utterances (anger, happy, neutral, sad).
    _iemocap("DCNN", 4490, 1, None, 64.3),
    _iemocap("ResNet34", 4490, 1, 61.61, 66.02),
    _iemocap("ADAN + SVM", 4490, 1, None, 65.01),
    _iemocap("PATCHY-SAN", 4490, 1, 56.27, 60.34),
    _iemocap("PATCHY-Diff", 4490, 1, 58.71, 63.23),
    _iemocap("Compact SER, cycle", 4490, 1, 62.27, 65.29),
    _glnn(4490, 1, 59.16, 68.15, ablation=False),
    _glnn(4490, 1, 65.39, 71.83, ablation=False, variant={"pooling": "weighted"}),
    # Table 1, label set of 5531 utterances (excited counted as happy).
    _iemocap("LSTM-GIN", 5531, 1, 65.53, 64.65),
    _iemocap("CoGCN", 5531, 1, 63.67, 62.64),
    _iemocap("GA-GRU", 5531, 1, 63.8, 62.27),
    _glnn(5531, 1, 68.65, 68.11, ablation=False),
    # Table 2, layers.
    _glnn(4490, 2, 55.93, 63.81, variant={"num_layers": 2}, parameters=361_000),
    _glnn(4490, 2, 59.16, 68.15, parameters=409_000),
    _glnn(4490, 2, 58.62, 67.82, variant={"num_layers": 4}, parameters=591_000),
    # Table 3, neighbours.
    _glnn(4490, 3, 57.97, 58.55, variant={"k": 5}, note=_COPIED),
    _glnn(4490, 3, 59.16, 68.15),
    _glnn(4490, 3, 59.91, 68.04, variant={"k": 15}),
    # Table 4, poolings.
    _glnn(4490, 4, 57.97, 66.15, variant={"pooling": "max"}),
    _glnn(4490, 4, 58.55, 67.71, variant={"pooling": "sum"}),
    _glnn(4490, 4, 59.16, 68.15),
    _glnn(4490, 4, 61.88, 68.49, variant={"pooling": "topk"}),
    _glnn(4490, 4, 65.39, 71.83, variant={"pooling": "weighted"}),
    # Simple systems on the six RAVDESS folds.
    Published(
        system="eGeMAPSv02 functionals (88) + SVM",
        source="reference system",
        corpus="ravdess",
        items=1440,
        classes=8,
        protocol="six folds of four actors",
        mixes_speakers=False,
        ua=48.6,
        wa=49.5,
        folds=6,
        kind="reference",
        note="The best of ten settings on the test folds, which flatters it.",
    ),
    Published(
        system="ComParE 2016 functionals (6,373) + linear SVM",
        source="reference system",
        corpus="ravdess",
        items=1440,
        classes=8,
        protocol="six folds of four actors",
        mixes_speakers=False,
        ua=59.1,
        wa=59.2,
        folds=6,
        kind="reference",
        note="Where several settings were tried, the best on the test folds, which flatters it.",
    ),
)

_CORPUS_TITLES = {
    "iemocap": "IEMOCAP",
    "ravdess": "RAVDESS",
    "emodb": "EmoDB",
    "crema_d": "CREMA-D",
    "msp_improv": "MSP-IMPROV",
    "prosody": "the built-in synthetic corpus",
}


def corpus_title(name: str) -> str:
    """A corpus' name as people write it."""
    return _CORPUS_TITLES.get(name, name)


def run_variant(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a resolved recipe that published rows vary: pooling, layers and neighbours.

    Args:
        recipe: A recipe with the slots ``model`` and ``graph``.
    """
    model, graph = recipe.get("model") or {}, recipe.get("graph") or {}
    found = {
        "pooling": model.get("pooling"),
        "num_layers": model.get("num_layers"),
        "k": graph.get("k"),
    }
    return {key: value for key, value in found.items() if value is not None}


def published_beside(run: Mapping[str, Any], recipe: Mapping[str, Any] | None = None) -> list[Beside]:
    """Published results to set beside a run, and how each differs from it.

    Results on the same corpus and number of classes come first. A model that was published on another corpus
    brings its result there, marked as not comparable.

    Args:
        run: Contents of a run's ``run.json``.
        recipe: Its resolved recipe.

    Returns:
        Comparable results first; empty where nothing relevant is published.
    """
    recipe = recipe or {}
    corpus = run.get("corpus") or {}
    model = (run.get("model") or {}).get("name")
    variant = run_variant(recipe)
    here = [p for p in PUBLISHED if p.corpus == corpus.get("name") and p.classes == len(corpus.get("classes") or [])]
    if here:
        # Label sets of one corpus (4490 and 5531 utterances) are told apart by their size.
        size = min({p.items for p in here}, key=lambda items: abs(items - int(corpus.get("items") or 0)))
        here = [p for p in here if p.items == size]
    chosen = [p for p in here if not p.ablation]
    exact = [p for p in here if p.ablation and p.model == model and dict(p.variant) == variant]
    known = {(p.system, p.items) for p in chosen}
    chosen += [p for p in exact if (p.system, p.items) not in known][:1]
    if model is not None and not any(p.model == model for p in chosen):
        elsewhere = [p for p in PUBLISHED if p.model == model and not p.ablation and p not in chosen]
        # A variant of our own stands beside what it is a variant of: weighted_scaled beside weighted.
        pooling = f"{variant.get('pooling')}_"
        same = [p for p in elsewhere if pooling.startswith(f"{p.variant.get('pooling')}_")]
        chosen += same or sorted(elsewhere, key=lambda p: -(p.wa or 0.0))[:1]
    beside = [_beside(p, run, model, variant) for p in chosen]
    return sorted(beside, key=lambda b: not b.comparable)


def _beside(p: Published, run: Mapping[str, Any], model: str | None, variant: Mapping[str, Any]) -> Beside:
    corpus, protocol = run.get("corpus") or {}, run.get("protocol") or {}
    owner = "the paper" if p.kind == "published" else "the reference"
    items, classes = int(corpus.get("items") or 0), len(corpus.get("classes") or [])
    sentences = []
    same_data = corpus.get("name") == p.corpus and classes == p.classes
    if corpus.get("name") != p.corpus:
        sentences.append(f"Another corpus: {corpus_title(p.corpus)}, {p.items:,} utterances of {p.classes} classes.")
    elif classes != p.classes:
        sentences.append(f"Other classes: {p.classes} there, {classes} here.")
    elif items != p.items:
        same_data = abs(items - p.items) <= 0.02 * p.items
        sentences.append(f"{p.items:,} utterances there, {items:,} here.")
    mixes = protocol.get("mixes_speakers")
    if p.mixes_speakers and mixes:
        sentences.append(f"Both mix speakers; {owner} uses {p.protocol}.")
    elif p.mixes_speakers:
        heard = "keeps them apart" if mixes is False else "follows another protocol"
        sentences.append(
            f"{owner.capitalize()} uses {p.protocol}, with the same speakers in training and test; this run "
            f"{heard}" + (", which is harder." if mixes is False else ".")
        )
    elif mixes:
        sentences.append(f"This run mixes speakers and {owner} does not, which flatters this run.")
    else:
        own = len(run.get("folds") or [])
        there = f"{owner.capitalize()} uses {p.protocol}"
        sentences.append(f"{there}, as here." if own == p.folds and same_data else f"{there}; this run has {own}.")
    if p.kind == "published" and not p.validation:
        sentences.append(
            "It has no validation set, so its epoch may have been chosen on the test part; here it was not."
        )
    if p.model is not None and p.model == model:
        differing = {
            key: (p.variant[key], variant[key])
            for key in p.variant
            if key in variant and variant[key] != p.variant[key]
        }
        words = {"pooling": "pooling", "num_layers": "number of layers", "k": "k"}
        sentences += [f"Other {words[key]}: {there} there, {ours} here." for key, (there, ours) in differing.items()]
    if p.note:
        sentences.append(p.note)
    comparable = same_data and mixes is not None and p.mixes_speakers == bool(mixes)
    return Beside(p, " ".join(sentences), comparable)


def published_series(key: str) -> dict[Any, Published]:
    """The rows of the ablation table of the GLNN paper that varies ``key``.

    Args:
        key: ``"num_layers"`` (Table 2), ``"k"`` (Table 3) or ``"pooling"`` (Table 4).

    Returns:
        Value of the setting to its row; empty for another key.
    """
    table = {"num_layers": 2, "k": 3, "pooling": 4}.get(key)
    source = f"{GLNN_PAPER}, Table {table}"
    return {p.variant[key]: p for p in PUBLISHED if table is not None and p.source == source}
