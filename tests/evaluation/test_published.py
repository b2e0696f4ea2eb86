from typing import Any

import pytest

from graphophone.evaluation.few_labels import FEW_LABELS, NOISE_DROPS
from graphophone.evaluation.literature import GLNN_PAPER, PUBLISHED, SOUND_CORPORA
from graphophone.evaluation.measures import SPEECH, TAGS, measures_of
from graphophone.evaluation.page import published_words
from graphophone.evaluation.publication import CITATION_GRAPHS
from graphophone.evaluation.published import (
    published_beside,
    published_series,
    quoted,
    run_variant,
    task_names,
    unpublished,
)


def run(corpus: str, items: int, classes: int, mixes: bool | None, folds: int = 5) -> dict[str, Any]:
    return {
        "corpus": {"name": corpus, "items": items, "classes": [str(c) for c in range(classes)]},
        "protocol": {"name": "any", "mixes_speakers": mixes},
        "model": {"name": "glnn"},
        "folds": [f"fold{f}" for f in range(folds)],
    }


def recipe(pooling: str = "weighted", layers: int = 3, k: int = 10) -> dict[str, Any]:
    return {
        "model": {"name": "glnn", "pooling": pooling, "num_layers": layers},
        "graph": {"name": "cycle_topk", "k": k},
    }


def test_tables_of_the_paper() -> None:
    by_table = {n: [p for p in PUBLISHED if p.source == f"{GLNN_PAPER}, Table {n}"] for n in (1, 2, 3, 4)}
    assert {n: len(rows) for n, rows in by_table.items()} == {1: 12, 2: 3, 3: 3, 4: 5}
    best = max(by_table[1], key=lambda p: p.wa or 0)
    assert (best.ua, best.wa, best.items) == (65.39, 71.83, 4490)
    assert {k: (p.ua, p.wa) for k, p in published_series("pooling").items()} == {
        "max": (57.97, 66.15),
        "sum": (58.55, 67.71),
        "mean": (59.16, 68.15),
        "topk": (61.88, 68.49),
        "weighted": (65.39, 71.83),
    }
    assert {k: p.parameters for k, p in published_series("num_layers").items()} == {2: 361_000, 3: 409_000, 4: 591_000}
    assert "copying" in published_series("k")[5].note
    assert published_series("lr") == {}


def test_same_protocol_is_comparable() -> None:
    beside = published_beside(run("iemocap", 4490, 4, True, 1), recipe())
    ours = next(b for b in beside if b.result.system == "GLNN, weighted pooling")
    assert ours.comparable
    assert "Both mix speakers" in ours.difference
    assert "no validation set" in ours.difference
    assert "pooling" not in ours.difference
    mean = next(b for b in beside if b.result.system == "GLNN, mean pooling")
    assert "Other pooling: mean there, weighted here." in mean.difference
    assert len(beside) == 9  # with another paper's row on the same items


def test_keeping_speakers_apart_is_said_and_not_comparable() -> None:
    beside = published_beside(run("iemocap", 4490, 4, False), recipe())
    assert beside
    for b in beside:
        assert not b.comparable
        assert "same speakers in training and test; this run keeps them apart, which is harder" in b.difference


def test_label_sets_are_told_apart_by_size() -> None:
    assert {b.result.items for b in published_beside(run("iemocap", 5531, 4, True), recipe("mean"))} == {5531}
    nearly = published_beside(run("iemocap", 4485, 4, True), recipe())
    assert all("4,490 utterances there, 4,485 here." in b.difference for b in nearly)
    assert all(b.comparable == (b.result.division is None) for b in nearly)  # "any" is no random split in given shares
    fewer = published_beside(run("iemocap", 3000, 4, True), recipe())
    assert not any(b.comparable for b in fewer)


def test_ablation_row_of_the_same_settings() -> None:
    systems = [b.result.system for b in published_beside(run("iemocap", 4490, 4, True), recipe("mean", layers=2))]
    assert "GLNN, mean pooling, 2 layers" in systems
    assert "GLNN, mean pooling, 4 layers" not in systems


def test_ravdess_has_references_and_the_paper_as_another_corpus() -> None:
    beside = published_beside(run("ravdess", 1440, 8, False, 6), recipe())
    assert [b.comparable for b in beside] == [True, True, False]
    assert beside[0].difference.startswith("The reference uses six folds of four actors, as here.")
    assert "Another corpus: IEMOCAP, 4,490 utterances of 4 classes." in beside[2].difference
    assert beside[2].result.variant["pooling"] == "weighted"
    scaled = published_beside(run("ravdess", 1440, 8, False, 6), recipe("weighted_scaled"))
    assert [b.result.system for b in scaled[2:]] == ["GLNN, weighted pooling"]
    assert "Other pooling: weighted there, weighted_scaled here." in scaled[2].difference
    four = published_beside(run("ravdess", 1440, 8, False, 4), recipe())
    assert "this run has 4" in four[0].difference


def test_mixing_run_beside_an_honest_reference() -> None:
    beside = published_beside(run("ravdess", 1440, 8, True, 1), recipe())
    reference = next(b for b in beside if b.result.corpus == "ravdess")
    assert not reference.comparable
    assert "flatters this run" in reference.difference


@pytest.mark.parametrize("mixes", [None, True, False])
def test_unknown_corpus_and_model(mixes: bool | None) -> None:
    unknown = run("mine", 10, 2, mixes)
    assert all(not b.comparable for b in published_beside(unknown, recipe()))
    unknown["model"] = {"name": "own"}
    assert published_beside(unknown) == []
    assert published_beside({}) == []


def test_run_variant() -> None:
    assert run_variant(recipe("max", 2, 5)) == {"pooling": "max", "num_layers": 2, "k": 5}
    assert run_variant({}) == {}


# ---------------------------------------------------------------- sounds


def sounds(
    corpus: str,
    items: int,
    classes: int,
    *,
    protocol: str = "official",
    folds: int = 1,
    train: int = 0,
    model: str = "lhgnn",
) -> dict[str, Any]:
    return {
        "corpus": {"name": corpus, "items": items, "classes": [str(c) for c in range(classes)], "speakers": 0},
        "protocol": {"name": protocol, "mixes_speakers": None, "folds": [{"train": train}] * folds},
        "model": {"name": model, "parameters": 31_140_952},
        "folds": [f"fold{f}" for f in range(folds)],
    }


FSD50K = sounds("fsd50k", 51_197, 200, train=36_796)
ESC50 = sounds("esc50", 2000, 50, protocol="folds", folds=5, train=1600)
SCRATCH: dict[str, Any] = {"model": {"name": "lhgnn"}, "training": {"pretrained": None}}


def test_tables_of_the_lhgnn_paper() -> None:
    by_table = {
        name: {(p.system, p.pretraining): p for p in PUBLISHED if p.source == f"Singh et al. (2025), Table {name}"}
        for name in ("I", "II", "III", "IV", "V")
    }
    assert {name: len(rows) for name, rows in by_table.items()} == {"I": 8, "II": 8, "III": 4, "IV": 3, "V": 3}
    assert by_table["I"]["LHGNN", "ImageNet"].map == 0.466
    assert by_table["I"]["LHGNN, from scratch", ""].map == 0.442
    assert by_table["II"]["LHGNN", "ImageNet"].map == 0.59
    assert by_table["II"]["LHGNN, from scratch", ""].map == 0.573
    best = by_table["III"]["LHGNN", "ImageNet"]
    assert (best.wa, best.spread, best.map) == (96.2, 0.3, None)
    assert {k: p.map for k, p in published_series("kernel").items()} == {"local": 0.531, "higher": 0.501, "both": 0.573}
    assert {k: p.map for k, p in published_series("cluster").items()} == {
        "kmeans": 0.544,
        "fcm": 0.573,
        "density": 0.574,
    }


def test_only_the_same_start_is_comparable() -> None:
    beside = {b.result.system: b for b in published_beside(FSD50K, SCRATCH)}
    assert beside["LHGNN, from scratch"].comparable
    assert "Both are trained from scratch." in beside["LHGNN, from scratch"].difference
    assert not beside["LHGNN"].comparable
    assert not beside["Audio Transformers"].comparable  # the table does not say
    assert len(beside) == 8
    started = {**SCRATCH, "training": {"pretrained": "vig.pth"}}
    beside = {b.result.system: b for b in published_beside(FSD50K, started)}
    assert not any(b.comparable for b in beside.values())
    assert "It is trained from scratch; this run starts from vig.pth." in beside["LHGNN, from scratch"].difference


def test_own_rows_come_first() -> None:
    for model, first in (("lhgnn", "LHGNN, from scratch"), ("ast", "AST, from scratch")):
        run = sounds("fsd50k", 51_197, 200, train=36_796, model=model)
        assert published_beside(run, {})[0].result.system == first


def test_ablations_stand_beside_their_own_variant_only() -> None:
    names = [b.result.system for b in published_beside(FSD50K, SCRATCH)]
    assert not any("neighbours" in name or "means" in name for name in names)
    local = {**SCRATCH, "model": {"name": "lhgnn", "kernel": "local"}}
    beside = {b.result.system: b for b in published_beside(FSD50K, local)}
    assert beside["LHGNN, neighbours only"].comparable
    assert "Other kernel: both there, local here." in beside["LHGNN, from scratch"].difference
    assert "Other kernel" not in beside["AST"].difference


def test_esc_50_is_pretrained_there() -> None:
    beside = published_beside(ESC50, SCRATCH)
    assert [b.result.system for b in beside] == ["LHGNN", "PANN", "AST", "ERANN"]
    assert not any(b.comparable for b in beside)
    assert "four to train on and one to test, as here." in beside[0].difference
    assert "trained on ImageNet; this run is trained from scratch" in beside[0].difference
    held = sounds("esc50", 2000, 50, protocol="folds", folds=5, train=1200)
    assert "1,600 clips to train on there, 1,200 here." in published_beside(held, SCRATCH)[0].difference
    other = sounds("esc50", 2000, 50, protocol="stratified", folds=1)
    assert "this run follows the protocol stratified" in published_beside(other, SCRATCH)[0].difference


def test_esc_10_has_references_and_no_figure_of_the_paper() -> None:
    ten = sounds("esc10", 400, 10, protocol="folds", folds=5, train=320)
    beside = published_beside(ten, SCRATCH)
    assert [(b.result.wa, b.result.kind, b.comparable) for b in beside] == [
        (80.0, "reference", True),
        (86.0, "reference", True),
    ]
    assert unpublished(ten).startswith("No result of LHGNN on ESC-10 is published")
    assert "AudioSet, FSD50K and ESC-50 only" in unpublished(ten)
    assert unpublished(ESC50) == ""
    assert unpublished(sounds("urbansound8k", 8732, 10, folds=10)) != ""
    assert published_beside(sounds("urbansound8k", 8732, 10, folds=10), SCRATCH) == []
    # Ten of fifty classes under the name of the whole are not ESC-50.
    assert published_beside(sounds("esc50", 400, 10, protocol="folds", folds=5), SCRATCH) == []


def test_a_small_part_of_audioset_is_not_comparable() -> None:
    whole = {b.result.system: b for b in published_beside(sounds("audioset", 1_900_000, 527, train=1_880_000), SCRATCH)}
    assert whole["LHGNN, from scratch"].comparable
    assert "chooses the weights that it averages on the evaluation part" in whole["LHGNN, from scratch"].difference
    part = {b.result.system: b for b in published_beside(sounds("audioset", 42_000, 527, train=20_000), SCRATCH)}
    assert not any(b.comparable for b in part.values())
    assert "2,000,000 clips to train on there, 20,000 here." in part["LHGNN, from scratch"].difference


def test_results_on_sounds_stay_with_their_corpus() -> None:
    speech = run("ravdess", 1440, 8, False, 6)
    speech["model"] = {"name": "lhgnn"}
    assert all(b.result.corpus == "ravdess" for b in published_beside(speech, SCRATCH))
    graph = sounds("esc10", 400, 10, protocol="folds", folds=5, model="glnn")
    assert all(b.result.corpus == "esc10" for b in published_beside(graph, recipe()))
    assert {p.corpus for p in PUBLISHED} - SOUND_CORPORA - CITATION_GRAPHS == {
        *("iemocap", "meld", "mosi", "msp_improv", "ravdess")
    }


# ---------------------------------------------------------------- few labels


def few(
    corpus: str = "iemocap",
    items: int = 4490,
    classes: int = 4,
    *,
    mixes: bool | None = True,
    model: str = "subgraph_ssl",
    protocol: str = "stratified",
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> dict[str, Any]:
    described = run(corpus, items, classes, mixes)
    described["model"] = {"name": model, "parameters": 151_978}
    train, validation, test = (round(share * items) for share in shares)
    sizes = {"train": train // 10, "unlabelled": train - train // 10, "validation": validation, "test": test}
    described["protocol"] |= {"name": protocol, "folds": [{"name": "random0", **sizes}]}
    return described


def ssl(tasks: Any = (), labelled: float = 0.1, **task: Any) -> dict[str, Any]:
    return {
        "model": {"name": "subgraph_ssl", "tasks": tasks},
        "protocol": {"labelled": labelled},
        "task": {"name": "subgraph_classification", **task},
    }


def test_tables_of_the_few_label_paper() -> None:
    cells = {(p.source[-8:], p.corpus, p.system): (p.ua, p.map, p.spread) for p in FEW_LABELS if p.labelled != 1}
    assert cells["Table II", "iemocap", "SubgraphSSL, all three tasks"] == (68.6, None, 1.2)
    assert cells["Table II", "msp_improv", "SubgraphSSL, shuffle"] == (64.1, None, 1.3)
    assert cells[" Table I", "audioset", "SubgraphSSL, completion"] == (None, 0.27, 0.01)
    tables = [p for p in FEW_LABELS if not p.ablation]
    # 13 rows; 18 rows of IEMOCAP, 8 of them with a figure for MSP-IMPROV.
    assert {n: sum(p.source.endswith(f"Table {n}") for p in tables) for n in ("I", "II")} == {"I": 13, "II": 26}
    assert [p.parameters for p in tables if p.model == "subgraph_ssl" and p.corpus == "audioset"] == [
        218_000, 260_000, 260_000, 219_000, 261_000, 218_000,
    ]  # fmt: skip
    assert NOISE_DROPS["completion"]["cockpit"] > NOISE_DROPS["none"]["cockpit"]
    assert {len(row) for row in NOISE_DROPS.values()} == {5}


def test_spread_is_in_the_unit_of_the_figure() -> None:
    rows = {(p.corpus, p.system): p for p in FEW_LABELS if p.labelled == 0.1}
    assert published_words(rows["iemocap", "SubgraphSSL, denoise"], SPEECH.main) == "68.0 ± 1.1"
    assert published_words(rows["audioset", "SubgraphSSL, denoise"], TAGS.main) == "0.260 ± 0.00"
    assert published_words(rows["audioset", "SubgraphSSL, denoise"], SPEECH.main) == "–"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "none"), ((), "none"), ("none", "none"), ([], "none"), (["denoise"], "denoise"), ("all", "all"),
        ("shuffle+denoise", "denoise+shuffle"), ({"denoise": 1.0, "completion": 0.5, "shuffle": 1}, "all"),
    ],
)  # fmt: skip
def test_names_of_tasks(value: Any, name: str) -> None:
    assert task_names(value) == name


def test_as_many_labels_drawn_alike_are_comparable() -> None:
    beside = {b.result.system: b for b in published_beside(few(), ssl("denoise"))}
    assert beside["SubgraphSSL, denoise"].comparable
    assert "Other" not in beside["SubgraphSSL, denoise"].difference
    assert "Other self-supervised tasks: no task there, denoise here." in beside["SubgraphSSL, no task"].difference
    whole = beside["SubgraphSSL, no task, all labels"]
    assert not whole.comparable
    assert "All training labels there, 10 % of the training labels here." in whole.difference
    quoted_row = beside["wav2vec 2.0"]
    assert not quoted_row.comparable
    assert "quotes this figure from elsewhere" in quoted_row.difference
    assert "How many labels it had is not said" in quoted_row.difference
    assert not any(name.startswith("GLNN") for name in beside)


def test_other_shares_and_speakers_apart_are_not_comparable() -> None:
    fewer = published_beside(few(), ssl("denoise", 0.02))
    assert not any(b.comparable for b in fewer)
    assert "10 % of the training labels there, 2 % of the training labels here." in fewer[0].difference
    apart = published_beside(few(mixes=False, protocol="speaker-independent"), ssl("denoise"))
    assert not any(b.comparable for b in apart)
    assert "this run keeps them apart, which is harder" in apart[0].difference


@pytest.mark.parametrize(
    ("shares", "same"),
    [((0.8, 0.1, 0.1), True), ((0.81, 0.09, 0.1), True), ((0.72, 0.08, 0.2), False), ((0.8, 0.02, 0.18), False)],
)
def test_only_a_random_split_in_the_same_shares_is_the_papers(shares: tuple[float, float, float], same: bool) -> None:
    row = next(b for b in published_beside(few(shares=shares), ssl("denoise")) if "denoise" in b.result.system)
    assert row.comparable == same
    assert ("this run one of the same kind" in row.difference) == same
    assert ("this run draws 72:8:20" in row.difference) == (shares == (0.72, 0.08, 0.2))


@pytest.mark.parametrize("protocol", ["folds", "official", "session"])
def test_other_ways_to_mix_speakers_are_not_the_papers(protocol: str) -> None:
    beside = published_beside(few(protocol=protocol), ssl("denoise"))
    assert not any(b.comparable for b in beside)
    assert f"follows the protocol {protocol}, which mixes speakers, too" in beside[0].difference
    unknown = few()
    unknown["protocol"]["folds"] = []
    rows = published_beside(unknown, ssl("denoise"))
    assert not any(b.comparable for b in rows)
    assert "the shares that this run draws are not known" in rows[0].difference


def test_runs_with_all_labels_meet_results_with_all_labels() -> None:
    names = [b.result.system for b in published_beside(few(), ssl("denoise", 1.0))]
    assert "SubgraphSSL, no task, all labels" in names
    assert "SpeechGCN" in names
    assert "GLNN, weighted pooling" in names
    assert "SubgraphSSL, denoise" not in names
    assert "HuBERT" not in names
    # A supervised model that has few labels stands beside those that had as few.
    glnn = few(model="glnn")
    assert all(
        b.result.labelled != 1 or b.result.model == "glnn"
        for b in published_beside(glnn, {**ssl(), "model": {"name": "glnn"}})
    )


def test_one_large_graph_has_its_own_row() -> None:
    whole = {b.result.system: b for b in published_beside(few(), ssl("none", sampling="whole"))}
    assert whole["SubgraphSSL, one large graph"].result.ua == 49.44
    assert whole["SubgraphSSL, one large graph"].comparable
    assert "Other sampling: subgraphs there, whole here." in whole["SubgraphSSL, no task"].difference
    assert "SubgraphSSL, one large graph" not in [b.result.system for b in published_beside(few(), ssl("none"))]


def test_another_corpus_of_speech_meets_the_same_tasks() -> None:
    here = few("ravdess", 1440, 8, mixes=False, protocol="speaker-independent")
    beside = published_beside(here, ssl("all"))
    assert [b.result.system for b in beside if b.result.kind == "published"] == ["SubgraphSSL, all three tasks"]
    assert "Another corpus: IEMOCAP" in beside[-1].difference
    assert not any(b.comparable for b in beside)  # the references had all labels
    assert "All training labels there, 10 % of the training labels here." in beside[0].difference


def test_sounds_with_few_labels() -> None:
    here = few("audioset", 86_000, 33, mixes=None)
    beside = {b.result.system: b for b in published_beside(here, ssl("all"))}
    assert beside["SubgraphSSL, all three tasks"].comparable
    assert "About 89,000 clips there, 86,000 here." in beside["SubgraphSSL, all three tasks"].difference
    assert beside["Spectrogram-VGG"].comparable
    assert quoted(here) == [words for words in quoted(here) if "church bell" in words] != []
    ten = few("esc10", 400, 10, mixes=None, protocol="folds")
    assert "SubgraphSSL on ESC-10" in unpublished(ten)
    assert "AudioSet with 33 classes only, of sounds" in unpublished(ten)
    assert unpublished(here) == ""
    assert quoted(ten) == []


def test_figures_that_are_quoted_stand_beside_what_they_vary() -> None:
    assert "0.147" in " ".join(quoted(few()))
    assert "Fig. 6" in " ".join(quoted(few(), ["model.tasks", "protocol.labelled"]))
    assert "Fig. 5a" in " ".join(quoted(few(), ["task.per_class"]))
    assert quoted(few(), ["model.dropout"]) == []
    assert quoted(few("ravdess", 1440, 8), ["protocol.labelled"]) == []
    assert quoted(few(model="glnn")) == []


def test_series_of_tasks_is_of_the_corpus() -> None:
    assert {k: p.ua for k, p in published_series("tasks", few()).items()} == {
        "none": 63.8, "denoise": 68.0, "completion": 66.4, "shuffle": 65.9, "all": 68.6,
    }  # fmt: skip
    assert published_series("tasks", few("audioset", 89_000, 33))["all"].map == 0.28
    assert published_series("tasks", few("ravdess", 1440, 8)) == {}
    assert published_series("tasks") == {}


def test_citation_graphs() -> None:
    run = {
        "corpus": {"name": "cora", "items": 2708, "classes": [str(number) for number in range(7)]},
        "model": {"name": "subgraph_ssl"},
        "protocol": {"name": "official", "mixes_speakers": None},
        "folds": ["official"],
    }
    gat = {
        "model": {"name": "subgraph_ssl", "backbone": "gat", "tasks": "denoise"},
        "task": {"name": "transductive_classification"},
        "protocol": {"name": "official"},
    }
    rows = published_beside(run, gat)
    assert [b.result.wa for b in rows] == [83.1, 84.2, 84.2, 83.2]
    assert all(b.comparable for b in rows)
    assert "Other self-supervised tasks" not in rows[1].difference
    assert "no task there, denoise here" in rows[0].difference
    small = {**gat, "task": {"name": "subgraph_classification"}}
    assert not any(b.comparable for b in published_beside(run, small))
    assert "see the whole graph" in published_beside(run, small)[0].difference
    mlp = {**gat, "model": {"name": "subgraph_ssl", "backbone": "mlp"}}
    assert len(published_beside(run, mlp)) == 16
    assert measures_of(run).main.key == "wa"
    speech = {
        "corpus": {"name": "ravdess", "items": 1440, "classes": list("abcdefgh")},
        "model": {"name": "subgraph_ssl"},
    }
    assert not {"cora", "citeseer", "pubmed"} & {b.result.corpus for b in published_beside(speech, gat)}
