"""What is published, set beside a run, and in words what sets the two apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphophone.evaluation.few_labels import FEW_LABELS, QUOTED, SSL_DEFAULTS, SSL_PAPER, TASK_WORDS
from graphophone.evaluation.literature import GLNN_PAPER, LHGNN_DEFAULTS, LHGNN_PAPER, PUBLISHED
from graphophone.evaluation.publication import CITATION_GRAPHS, SOUND_CORPORA, Published
from graphophone.evaluation.two_modalities import (
    GNN_WORDS,
    HEMOGAT_DEFAULTS,
    HEMOGAT_PAPER,
    MODALITY_WORDS,
    TWO_MODALITIES,
)
from graphophone.modalities import MODALITIES


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


_CORPUS_TITLES = {
    "iemocap": "IEMOCAP",
    "ravdess": "RAVDESS",
    "emodb": "EmoDB",
    "crema_d": "CREMA-D",
    "msp_improv": "MSP-IMPROV",
    "meld": "MELD",
    "mosi": "CMU-MOSI",
    "dailydialog": "DailyDialog",
    "emorynlp": "EmoryNLP",
    "prosody": "the built-in synthetic corpus",
    "esc50": "ESC-50",
    "esc10": "ESC-10",
    "fsd50k": "FSD50K",
    "audioset": "AudioSet",
    "urbansound8k": "UrbanSound8K",
    "cora": "Cora",
    "citeseer": "CiteSeer",
    "pubmed": "PubMed",
}


def corpus_title(name: str) -> str:
    """A corpus' name as people write it."""
    return _CORPUS_TITLES.get(name, name)


_SETTINGS = {
    "pooling": "pooling",
    "num_layers": "number of layers",
    "k": "k",
    "kernel": "kernel",
    "cluster": "clustering",
    "tasks": "self-supervised tasks",
    "sampling": "sampling",
    "backbone": "network",
    "modality": "modality",
    "hm_gat": "graph part",
    "cmt": "cross-modal transformer",
    "gnn": "graph layers",
}


def task_names(value: Any) -> str:
    """Self-supervised tasks of a recipe under one name: ``"none"``, ``"denoise"``, ``"denoise+shuffle"``, ``"all"``.

    Args:
        value: A text such as ``"denoise+shuffle"``, a list of names, names with their weights, or None.
    """
    names = value.replace(" ", "").split("+") if isinstance(value, str) else list(value or ())
    names = ["denoise", "completion", "shuffle"] if names == ["all"] else [name for name in names if name != "none"]
    return "all" if len(set(names)) == 3 else "+".join(sorted(set(names))) or "none"


def labelled_share(recipe: Mapping[str, Any]) -> float:
    """The share of the training items whose labels a recipe uses."""
    return float((recipe.get("protocol") or {}).get("labelled") or 1.0)


def run_variant(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a resolved recipe that published rows vary.

    Args:
        recipe: A recipe with the slots ``model`` and ``graph``.

    Returns:
        ``kernel`` and ``cluster`` of LHGNN; ``tasks``, ``sampling`` and ``backbone`` of SubgraphSSL; ``modality``,
        ``hm_gat``, ``cmt``, ``gnn`` and ``num_layers`` of HemoGAT; of other models, what the recipe has of ``pooling``,
        ``num_layers`` and ``k``.
    """
    model, graph = recipe.get("model") or {}, recipe.get("graph") or {}
    if model.get("name") == "lhgnn":
        return {key: model.get(key) or default for key, default in LHGNN_DEFAULTS.items()}
    if model.get("name") == "subgraph_ssl":
        sampling = (recipe.get("task") or {}).get("sampling") or SSL_DEFAULTS["sampling"]
        backbone = model.get("backbone") or SSL_DEFAULTS["backbone"]
        return {"tasks": task_names(model.get("tasks")), "sampling": sampling, "backbone": backbone}
    if model.get("name") == "hemogat":
        given = {key: model.get(key) for key in HEMOGAT_DEFAULTS}
        return {key: default if given[key] is None else given[key] for key, default in HEMOGAT_DEFAULTS.items()}
    found = {
        "pooling": model.get("pooling"),
        "num_layers": model.get("num_layers"),
        "k": graph.get("k"),
    }
    return {key: value for key, value in found.items() if value is not None}


def published_beside(run: Mapping[str, Any], recipe: Mapping[str, Any] | None = None) -> list[Beside]:
    """Published results to set beside a run, and how each differs from it.

    Results on the same corpus and number of classes come first. A run that uses a part of the labels stands beside
    results that do so too, and beside its own model with all of them. A model of speech that was published on another
    corpus brings its result there, marked as not comparable; results on sounds stand beside runs on their own
    corpus only.

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
        # Label sets of one corpus (4490, 5509 and 5531 utterances) are told apart by their size; of two that are as
        # large, the model's own.
        items = int(corpus.get("items") or 0)
        own = {p.items for p in here if p.model == model and abs(p.items - items) <= _SAME_SIZE * p.items}
        size = min(own or {p.items for p in here}, key=lambda there: abs(there - items))
        here = [p for p in here if p.items == size]
    if corpus.get("name") in CITATION_GRAPHS:  # of the four networks that are published, the one that this run has
        here = [p for p in here if p.variant["backbone"] == variant.get("backbone")] or here
    chosen = _as_many_labels([p for p in here if not p.ablation], labelled_share(recipe), model)
    exact = [p for p in here if p.ablation and p.model == model and dict(p.variant) == variant]
    known = {(p.model, p.items, frozenset(p.variant.items())) for p in chosen}
    chosen += [p for p in exact if (p.model, p.items, frozenset(p.variant.items())) not in known][:1]
    if model is not None and corpus.get("name") not in SOUND_CORPORA and not any(p.model == model for p in chosen):
        elsewhere = [
            p
            for p in PUBLISHED
            if p.model == model
            and not p.ablation
            and p.corpus not in SOUND_CORPORA | CITATION_GRAPHS
            and p not in chosen
        ]
        # A variant of our own stands beside what it is a variant of: weighted_scaled beside weighted.
        pooling = f"{variant['pooling']}_" if "pooling" in variant else ""
        same = [p for p in elsewhere if pooling and pooling.startswith(f"{p.variant.get('pooling')}_")]
        same = same or [p for p in elsewhere if model == "subgraph_ssl" and dict(p.variant) == variant][:1]
        chosen += same or sorted(elsewhere, key=lambda p: -(p.wa or p.ua or 0.0))[:1]
    beside = [_beside_of(p)(p, run, recipe) for p in chosen]
    if corpus.get("name") in SOUND_CORPORA:  # the model's own results before those of others
        beside.sort(key=lambda b: b.result.model is None or b.result.model != model)
    return sorted(beside, key=lambda b: not b.comparable)


_SAME_SIZE = 0.02
"""How far numbers of items may be apart, of the published one, and still count as the same data."""


def _as_many_labels(rows: Sequence[Published], share: float, model: Any) -> list[Published]:
    """Results of learning from few labels beside a run that does, the others beside the others."""
    if share == 1:
        return [p for p in rows if p.labelled == 1 and (not p.quoted or model in ("subgraph_ssl", "hemogat"))]
    few = [p for p in rows if p.labelled != 1]
    whole = [p for p in rows if p.labelled == 1 and (not few or (model is not None and p.model == model))]
    return few + whole


def _beside_of(p: Published) -> Callable[[Published, Mapping[str, Any], Mapping[str, Any]], Beside]:
    if p.source.startswith(SSL_PAPER):
        return _beside_few
    if p.source.startswith(HEMOGAT_PAPER) or p.corpus in ("meld", "mosi"):
        return _beside_modal
    return _beside_sound if p.corpus in SOUND_CORPORA else _beside


def unpublished(run: Mapping[str, Any]) -> str:
    """A sentence where a published model has no published result on the corpus of a run; else empty.

    Args:
        run: Contents of a run's ``run.json``.
    """
    corpus, model = (run.get("corpus") or {}).get("name"), (run.get("model") or {}).get("name")
    if model == "rigsl":
        return (
            "No figure of RIGSL (Xiong et al., 2025) is quoted: the released code keeps the epoch that is best on the "
            "test part, and a run that does not cannot be set beside it."
        )
    papers = {"lhgnn": ("LHGNN", LHGNN_PAPER), "subgraph_ssl": ("SubgraphSSL", SSL_PAPER)}
    there = dict.fromkeys(
        f"{corpus_title(p.corpus)}{' with 33 classes' if p.classes == 33 else ''}"
        for p in PUBLISHED
        if p.model == model and p.corpus in SOUND_CORPORA
    )
    if model not in papers or corpus not in SOUND_CORPORA:
        return ""
    if any(p.model == model and p.corpus == corpus for p in PUBLISHED):
        return ""
    system, paper = papers[model]
    *first, last = there
    named = f"{', '.join(first)} and {last}" if first else last
    sounds = ", of sounds" if model == "subgraph_ssl" else ""
    return (
        f"No result of {system} on {corpus_title(corpus)} is published: {paper} report {named} only{sounds}, and their "
        "figures there say nothing about this corpus."
    )


def quoted(run: Mapping[str, Any], keys: Sequence[str] = ()) -> list[str]:
    """What a paper says of figures that it prints without numbers, where a run is of its model and corpus.

    Args:
        run: Contents of a run's ``run.json``.
        keys: Settings that are varied, for figures that vary one of them; none: figures of one model.
    """
    corpus = run.get("corpus") or {}
    if (run.get("model") or {}).get("name") != "subgraph_ssl":
        return []
    if corpus.get("name") == "audioset" and len(corpus.get("classes") or []) != 33:
        return []
    return [
        q.words for q in QUOTED if corpus.get("name") in q.corpora and (set(q.keys) & set(keys) if keys else not q.keys)
    ]


def _variant_differences(p: Published, model: Any, variant: Mapping[str, Any]) -> list[str]:
    if p.model is None or p.model != model:
        return []
    differing = {
        key: (p.variant[key], variant[key]) for key in p.variant if variant.get(key, p.variant[key]) != p.variant[key]
    }
    return [
        f"Other {_SETTINGS[key]}: {_said(key, there)} there, {_said(key, ours)} here."
        for key, (there, ours) in differing.items()
    ]


def _said(key: str, value: Any) -> Any:
    if key in ("hm_gat", "cmt"):
        return "with it" if value else "without"
    words = {"tasks": TASK_WORDS, "modality": MODALITY_WORDS, "gnn": GNN_WORDS}.get(key, {})
    return words.get(value, value)


def _beside(p: Published, run: Mapping[str, Any], recipe: Mapping[str, Any]) -> Beside:
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
    sentences += _variant_differences(p, (run.get("model") or {}).get("name"), run_variant(recipe))
    words, same_labels = _labels(p, recipe)
    sentences += words
    if p.note:
        sentences.append(p.note)
    comparable = same_data and same_labels and mixes is not None and p.mixes_speakers == bool(mixes)
    return Beside(p, " ".join(sentences), comparable)


def _beside_sound(p: Published, run: Mapping[str, Any], recipe: Mapping[str, Any]) -> Beside:
    """Sounds: what counts is the published division and what the weights had seen before."""
    corpus, protocol = run.get("corpus") or {}, run.get("protocol") or {}
    owner = "the paper" if p.kind == "published" else "the reference"
    items, folds = int(corpus.get("items") or 0), len(run.get("folds") or [])
    sentences = []
    # Clips of AudioSet vanish from the net, so that no two copies of it are the same.
    same_data = abs(items - p.items) <= (0.15 if p.corpus == "audioset" else 0.02) * p.items
    if abs(items - p.items) > 0.01 * p.items:
        sentences.append(f"About {p.items:,} clips there, {items:,} here.")
    same_parts = protocol.get("name") in {"folds", "official"} and folds == p.folds
    there = f"{owner.capitalize()} uses {p.protocol}"
    if same_parts:
        sentences.append(f"{there}, as here." if same_data else f"{there}.")
    else:
        sentences.append(f"{there}; this run follows the protocol {protocol.get('name') or 'that is not known'}.")
    trained = min((int(fold.get("train") or 0) for fold in protocol.get("folds") or []), default=0)
    if p.train and trained and abs(trained - p.train) > 0.05 * p.train:
        same_data = same_data and trained >= 0.5 * p.train
        sentences.append(f"{p.train:,} clips to train on there, {trained:,} here.")
    words, same_start = _start(p, (recipe.get("training") or {}).get("pretrained"))
    sentences += words
    if p.chosen_on_test:
        sentences.append(
            "The released code chooses the weights that it averages on the evaluation part, which flatters it."
        )
    elif p.kind == "published" and not p.validation:
        sentences.append(
            "It has no validation set, so its epoch may have been chosen on the test part; here it was not."
        )
    model = run.get("model") or {}
    sentences += _variant_differences(p, model.get("name"), run_variant(recipe))
    ours = int(model.get("parameters") or 0)
    theirs = p.parameters if p.model is not None and p.model == model.get("name") else None
    if theirs and ours and abs(ours - theirs) > 0.05 * theirs:
        sentences.append(f"{_millions(theirs)} million parameters there, {_millions(ours)} here.")
    words, same_labels = _labels(p, recipe)
    sentences += words
    if p.note:
        sentences.append(p.note)
    return Beside(p, " ".join(sentences), same_data and same_parts and same_start and same_labels)


def _labels(p: Published, recipe: Mapping[str, Any]) -> tuple[list[str], bool]:
    """How many labels were used there and here, in words where it differs, and whether it is the same."""
    ours = labelled_share(recipe)
    if p.labelled is None:
        return [f"How many labels it had is not said; {_share(ours)} here."], False
    if abs(p.labelled - ours) > 1e-9:
        return [f"{_share(p.labelled).capitalize()} there, {_share(ours)} here."], False
    return [], True


def _share(share: float) -> str:
    return "all training labels" if share == 1 else f"{100 * share:g} % of the training labels"


def _beside_few(p: Published, run: Mapping[str, Any], recipe: Mapping[str, Any]) -> Beside:
    """Few labels: what counts are the data, the share of labels, the division, and whose figure it is."""
    corpus, protocol = run.get("corpus") or {}, run.get("protocol") or {}
    items, classes = int(corpus.get("items") or 0), len(corpus.get("classes") or [])
    noun = "clips" if p.corpus in SOUND_CORPORA else "papers" if p.corpus in CITATION_GRAPHS else "utterances"
    sentences = []
    same_data = corpus.get("name") == p.corpus and classes == p.classes
    if not same_data:
        sentences.append(f"Another corpus: {corpus_title(p.corpus)}, {p.items:,} {noun} of {p.classes} classes.")
    elif items != p.items:
        same_data = abs(items - p.items) <= (0.15 if p.corpus == "audioset" else 0.02) * p.items
        sentences.append(f"{'About ' if noun == 'clips' else ''}{p.items:,} {noun} there, {items:,} here.")
    words, same_labels = _labels(p, recipe)
    sentences += words
    same_division = not p.quoted and _same_division(p, protocol)
    if p.corpus in CITATION_GRAPHS and (recipe.get("task") or {}).get("name") != "transductive_classification":
        sentences.append("The paper's networks see the whole graph in training, and this run's does not.")
        same_labels = False
    if p.quoted:
        sentences.append("The paper quotes this figure from elsewhere, and does not say how the data were divided.")
    elif same_division:
        sentences.append(f"The paper uses {p.protocol}, and this run one of the same kind.")
    else:
        sentences.append(f"The paper uses {p.protocol}{_other_division(p, protocol)}.")
    if p.pretraining:
        sentences.append(f"Its weights were first trained on {p.pretraining}.")
    sentences += _variant_differences(p, (run.get("model") or {}).get("name"), run_variant(recipe))
    if p.note:
        sentences.append(p.note)
    return Beside(p, " ".join(sentences), same_data and same_labels and same_division)


def _beside_modal(p: Published, run: Mapping[str, Any], recipe: Mapping[str, Any]) -> Beside:
    """Text and audio: what counts are the data and the split, and beside whom a test utterance is answered."""
    corpus, protocol = run.get("corpus") or {}, run.get("protocol") or {}
    items, classes = int(corpus.get("items") or 0), len(corpus.get("classes") or [])
    owner = "the paper" if p.kind == "published" else "the reference"
    sentences = []
    same_data = corpus.get("name") == p.corpus and classes == p.classes
    if corpus.get("name") != p.corpus:
        sentences.append(f"Another corpus: {corpus_title(p.corpus)}, {p.items:,} utterances of {p.classes} classes.")
    elif not same_data:
        sentences.append(f"Other classes: {p.classes} there, {classes} here.")
    elif items != p.items:
        same_data = abs(items - p.items) <= _SAME_SIZE * p.items
        sentences.append(f"{p.items:,} utterances there, {items:,} here.")
    if p.quoted:
        same_split = False
        sentences.append("The paper quotes this figure, and does not say how the data were divided.")
    else:
        same_split = same_data and _same_parts(p, protocol)
        there = f"{owner.capitalize()} uses {p.protocol}"
        sentences.append(f"{there}, as here." if same_split else f"{there}{_other_parts(p, protocol)}.")
    if p.chosen_on_test:
        sentences.append("Its numbers of neighbours were chosen on test items, which flatters it.")
    sentences += _seen(p, recipe)
    if p.model == "hemogat":
        if (run.get("model") or {}).get("name") != "hemogat":
            sentences.append("There the neighbours of a test item are other test items.")
        elif ((recipe.get("task") or {}).get("eval_scope") or "bank") == "bank":
            sentences.append("There the neighbours of a test item are other test items; here they are training items.")
        sentences.append(f"It reads vectors of fine-tuned BERT and wav2vec 2.0; this run reads {_vectors(recipe)}.")
        if (run.get("model") or {}).get("name") == "hemogat":
            sentences += _variant_differences(p, "hemogat", run_variant(recipe))
    words, same_labels = _labels(p, recipe)
    sentences += words
    if p.note:
        sentences.append(p.note)
    return Beside(p, " ".join(sentences), same_data and same_split and same_labels)


def _seen(p: Published, recipe: Mapping[str, Any]) -> list[str]:
    """What the system sees that this run does not, and the other way round, in sentences."""
    features = recipe.get("features") or {}
    ours = features.get("name") == "modalities" and features.get("video") is not None
    conversations = (recipe.get("task") or {}).get("name") == "dialogue_classification"
    found = []
    if p.video and not ours:
        found.append("It also sees the face.")
    if p.context and not conversations:
        found.append(f"It also sees the other utterances of the {p.context}, which a single utterance has not.")
    if conversations and p.kind == "reference" and not p.context:
        found.append("It answers for every utterance by itself; this run reads the whole conversation.")
    return found


def _same_parts(p: Published, protocol: Mapping[str, Any]) -> bool:
    """Whether a run is divided as published: by the corpus' own parts, as large as they were there."""
    if protocol.get("name") != "official":
        return False
    sizes = [int(fold.get("test") or 0) for fold in protocol.get("folds") or []]
    share = p.division[2] if p.division else None
    return share is None or (bool(sizes) and all(abs(n - share * p.items) <= _SAME_SIZE * p.items for n in sizes))


def _other_parts(p: Published, protocol: Mapping[str, Any]) -> str:
    """What a run's parts are instead of the published ones, as the rest of a sentence."""
    if p.mixes_speakers and protocol.get("mixes_speakers") is False:
        return "; this run keeps speakers apart, which is harder"
    return f"; this run follows the protocol {protocol.get('name') or 'that is not known'}"


def _vectors(recipe: Mapping[str, Any]) -> str:
    """What a run's vectors are made by, in words."""
    features = recipe.get("features") or {}
    if features.get("name") != "modalities":
        return str(features.get("name") or "others")
    read = (recipe.get("model") or {}).get("modality") or "both"
    parts = []
    for modality in MODALITIES:
        part = features.get(modality)
        if part is None or read not in (modality, "both"):
            continue
        name = part.get("name") if isinstance(part, Mapping) else part
        model = part.get("model") if isinstance(part, Mapping) else None
        made = "vectors that come with the corpus" if name == "given" else f"those of {model or name}"
        parts.append(f"{made} ({modality})")
    return " and ".join(parts) or "others"


_NEAR = 0.015
"""How far a share of the items may be from the published one and still count as it: 81:9:10 is 80:10:10."""


def _same_division(p: Published, protocol: Mapping[str, Any]) -> bool:
    """Whether a run's items were divided as the paper's: at random in the same shares, or by the graph's own split."""
    if p.corpus in CITATION_GRAPHS:
        return protocol.get("name") == "official"
    ours = _random_shares(protocol)
    return p.division is not None and len(ours) > 0 and all(
        abs(here - there) <= _NEAR for shares in ours for here, there in zip(shares, p.division, strict=True)
    )  # fmt: skip


def _random_shares(protocol: Mapping[str, Any]) -> list[tuple[float, float, float]]:
    """Shares of training (with or without label), validation and test items in every split, if drawn at random."""
    if protocol.get("name") != "stratified":
        return []
    found = []
    for fold in protocol.get("folds") or []:
        sizes = [int(fold.get(part) or 0) for part in ("train", "unlabelled", "validation", "test")]
        train, validation, test = sizes[0] + sizes[1], sizes[2], sizes[3]
        total = max(train + validation + test, 1)
        found.append((train / total, validation / total, test / total))
    return found


def _other_division(p: Published, protocol: Mapping[str, Any]) -> str:
    """What a run's division is instead of the paper's, as the rest of a sentence."""
    mixes = protocol.get("mixes_speakers")
    if p.mixes_speakers and mixes is False:
        return ", with the same speakers in training and test; this run keeps them apart, which is harder"
    shares = _random_shares(protocol)
    if shares:
        return f"; this run draws {':'.join(f'{100 * share:.0f}' for share in shares[0])}"
    name = protocol.get("name") or "that is not known"
    if name == "stratified":
        return "; the shares that this run draws are not known"
    also = ", which mixes speakers, too, but in another way" if p.mixes_speakers and mixes else ""
    return f"; this run follows the protocol {name}{also}"


def _start(p: Published, pretrained: Any) -> tuple[list[str], bool]:
    """What two trainings started from, in words, and whether it is the same."""
    if p.kind == "reference":
        return [], True
    ours = f"this run starts from {pretrained}" if pretrained else "this run is trained from scratch"
    if p.pretraining is None:
        return [f"Whether it starts from trained weights is not clear; {ours}."], False
    if p.pretraining:
        return [f"It starts from weights trained on {p.pretraining}; {ours}."], False
    return (
        (["Both are trained from scratch."], True)
        if not pretrained
        else ([f"It is trained from scratch; {ours}."], False)
    )


def _millions(count: int) -> str:
    return f"{count / 1e6:.0f}" if count >= 2e7 else f"{count / 1e6:.1f}"


_SERIES = {
    "num_layers": f"{GLNN_PAPER}, Table 2",
    "k": f"{GLNN_PAPER}, Table 3",
    "pooling": f"{GLNN_PAPER}, Table 4",
    "kernel": f"{LHGNN_PAPER}, Table IV",
    "cluster": f"{LHGNN_PAPER}, Table V",
}


_HEMOGAT_KEYS = {f"model.{key}" for key in HEMOGAT_DEFAULTS}


def published_parts(keys: Sequence[str], recipe: Mapping[str, Any], run: Mapping[str, Any]) -> Published | None:
    """The row of Tables 4 to 6 of HemoGAT's paper that is of the same variant as a run.

    Args:
        keys: Settings in which the runs of a comparison differ.
        recipe: The run's recipe.
        run: Contents of its ``run.json``. A run on a corpus that the paper has not stands beside its row on IEMOCAP.

    Returns:
        None if other settings differ, too, or the paper has no such variant.
    """
    if not keys or not set(keys) <= _HEMOGAT_KEYS or (recipe.get("model") or {}).get("name") != "hemogat":
        return None
    name = (run.get("corpus") or {}).get("name")
    corpus, ours = name if name == "meld" else "iemocap", run_variant(recipe)
    varied = [key.removeprefix("model.") for key in keys]  # what runs have in common may be other than in the paper
    variant = {**HEMOGAT_DEFAULTS, **{key: ours[key] for key in varied}}
    tables = {"model.gnn": "5", "model.num_layers": "6"}
    wanted = tables.get(keys[0], "4") if len(keys) == 1 else "4"
    rows = [p for p in TWO_MODALITIES if p.model == "hemogat" and p.corpus == corpus and dict(p.variant) == variant]
    return next((p for p in rows if p.source.endswith(f"Table {wanted}")), rows[0] if rows else None)


def published_series(key: str, run: Mapping[str, Any] | None = None) -> dict[Any, Published]:
    """The rows of the published ablation table that varies ``key``.

    Args:
        key: ``"num_layers"``, ``"k"`` or ``"pooling"`` (GLNN, Tables 2 to 4), ``"kernel"`` or ``"cluster"``
            (LHGNN, Tables IV and V), ``"tasks"`` (SubgraphSSL, Tables I and II, with one label in ten).
        run: Contents of a run's ``run.json``: the table of tasks has a column for each of three corpora, and none for
            others.

    Returns:
        Value of the setting to its row; empty for another key.
    """
    if key == "tasks":
        corpus = (run or {}).get("corpus") or {}
        where = corpus.get("name"), len(corpus.get("classes") or [])
        rows = [p for p in FEW_LABELS if p.model == "subgraph_ssl" and p.labelled != 1 and not p.ablation]
        return {p.variant["tasks"]: p for p in rows if (p.corpus, p.classes) == where}
    return {p.variant[key]: p for p in PUBLISHED if p.source == _SERIES.get(key)}
