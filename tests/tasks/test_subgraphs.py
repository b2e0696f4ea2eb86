"""Learning from few labels in sampled subgraphs."""

import dataclasses
import logging
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from torch_geometric.data import Data

from graphophone.evaluation.embeddings import mean_average_distance, silhouette
from graphophone.graphs.attachment import chance_of_true_label, min_random_edges
from graphophone.graphs.signed import Signed, signed_edges
from graphophone.graphs.similarity import KNN
from graphophone.models.attached import content_ids, draw_references, predict_attached, pseudo_label
from graphophone.models.subgraph_ssl import SubgraphSSL
from graphophone.tasks.base import TrainingDivergedError
from graphophone.tasks.nodes import Nodes
from graphophone.tasks.optimization import TaskError
from graphophone.tasks.subgraphs import UNSEEN, SubgraphClassification

ALL = ("denoise", "completion", "shuffle")
IDS = [f"new{number}" for number in range(80)]


def blobs(items: int, seed: int) -> tuple[Tensor, Tensor]:
    """Four Gaussian groups in 16 dimensions."""
    y = torch.arange(items) % 4
    centres = 2.5 * torch.eye(4).repeat_interleave(4, dim=1)
    return torch.randn(items, 16, generator=torch.Generator().manual_seed(seed)) + centres[y], y


def nodes_of(validation: bool = True) -> Nodes:
    """240 items, a tenth of them labelled, and 80 to validate on."""
    (x, y), (held, truth) = blobs(240, 0), blobs(80, 1)
    rows = torch.arange(320)
    known = torch.cat([y, truth])
    known[24:240] = -1
    return Nodes(
        x=torch.cat([x, held]),
        y=known,
        train=rows[:24],
        unlabelled=rows[24:240],
        validation=rows[240:] if validation else rows[:0],
        ids=[f"item{row}" for row in range(320)],
        graph=Signed(),
    )


def task_of(seed: int = 0, **options: object) -> SubgraphClassification:
    torch.manual_seed(seed)
    model = SubgraphSSL(in_channels=16, num_classes=4, hidden_channels=32, tasks=ALL, per_dim=True)
    options = {"per_class": 5, "unlabelled": 9, "draws": 1, **options}
    task = SubgraphClassification(model, 4, seed=seed, **options)  # type: ignore[arg-type]
    task.use(nodes_of())
    return task


def questions() -> dict[str, Any]:
    """The validation items."""
    x, y = blobs(80, 1)
    return {"x": x, "y": y, "row": torch.arange(240, 320), "ids": content_ids(x)}


def held() -> DataLoader[Any]:
    """The validation items as a trainer takes them."""
    return DataLoader([questions()], batch_size=None)  # type: ignore[arg-type]


def trainer(epochs: int) -> Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


@pytest.mark.filterwarnings("ignore")
def test_learns_from_a_tenth_of_the_labels() -> None:
    task = task_of(draws=2)
    fit = trainer(5)
    fit.fit(task, task.train_dataloader(), held())
    names = {f"train_{name}" for name in ("loss", "cross_entropy", "entropy", *ALL)}
    assert names | {"validation_loss", "validation_ua", "validation_wa"} <= set(fit.callback_metrics)
    pool = task.sampler
    truth = blobs(240, 0)[1]
    found = pseudo_label(task.model, pool)
    assert (found.labels == truth)[24:].double().mean() >= 0.95
    x, y = blobs(80, 1)
    references = draw_references(pool, found.labels, draws=10)
    near = predict_attached(task.model, references, x, IDS, how="nearest", states=task.model.embed)
    assert (near.probabilities.argmax(dim=1) == y).double().mean() >= 0.95
    assert near.states is not None
    assert silhouette(near.states, y) > 0.2
    # Random edges bring what random classes say: far better than chance, and better with more draws.
    lots = predict_attached(task.model, draw_references(pool, found.labels, draws=40), x, IDS, edges=1)
    assert (lots.probabilities.argmax(dim=1) == y).double().mean() >= 0.75


@pytest.mark.filterwarnings("ignore")
def test_the_same_for_a_seed() -> None:
    def weights() -> Tensor:
        task = task_of()
        trainer(1).fit(task, task.train_dataloader())
        return torch.cat([p.detach().view(-1) for p in task.model.parameters()])

    assert torch.equal(weights(), weights())


@pytest.mark.filterwarnings("ignore")
def test_epochs_draw_other_subgraphs() -> None:
    task = task_of()
    drawn: list[Tensor] = []
    step = task.training_step

    def noted(batch: object, batch_idx: int) -> Tensor:
        if batch_idx == 0:
            drawn.append(batch.x)  # type: ignore[attr-defined]
        return step(batch, batch_idx)  # type: ignore[arg-type]

    task.training_step = noted  # type: ignore[method-assign]
    trainer(2).fit(task, task.train_dataloader())
    expected = [next(task.sampler.epoch(epoch)).x for epoch in (0, 1)]
    assert torch.equal(torch.cat(drawn), torch.cat(expected))


def test_a_network_is_validated_as_it_answers() -> None:
    task = task_of(draws=3)
    fit = trainer(2)
    fit.fit(task, task.train_dataloader(), held())
    validated = fit.callback_metrics["validation_wa"].item()
    answers = fit.predict(task, held())
    assert answers is not None
    found = answers[0]["probabilities"].argmax(dim=1) == blobs(80, 1)[1]  # type: ignore[index, call-overload]
    assert found.double().mean().item() == pytest.approx(validated, abs=1e-6)
    companions = task.companions()
    again = predict_attached(
        task.model, companions["references"], questions()["x"], questions()["ids"], **companions["attachment"]
    )
    assert torch.equal(again.probabilities, answers[0]["probabilities"])  # type: ignore[index, call-overload]
    names = [graph.id for graph in companions["references"]]
    assert all(set(part) <= {f"item{row}" for row in range(240)} for part in names)
    assert 0 < answers[0]["mad"][0] < 1  # type: ignore[index, call-overload]


@pytest.mark.parametrize("options", [{}, {"draws": 3}, {"draws": 3, "attachment": "none"}])
def test_answers_need_little_memory_and_spread_is_of_draws_that_differ(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(**options)
    task.references = task.refer()
    task.eval()
    asked = questions()
    with torch.no_grad():
        whole = task.predict_step(asked, 0)
        monkeypatch.setattr("graphophone.tasks.subgraphs.NODES", 100)  # three graphs of 29 nodes and a recording
        widest = 0
        embed = task.model.embed

        def noted(x: Tensor, *edges: Tensor) -> Tensor:
            nonlocal widest
            widest = max(widest, len(x))
            return embed(x, *edges)

        monkeypatch.setattr(task.model, "embed", noted)
        monkeypatch.setattr(
            "graphophone.tasks.subgraphs.predict_attached",
            lambda *words, **more: predict_attached(*words, **more | {"states": embed}),
        )
        parts = task.predict_step(asked, 0)
    assert 0 < widest <= 100
    torch.testing.assert_close(parts["mad"], whole["mad"])
    assert ("spread" in whole) == (options == {"draws": 3})


def test_every_recording_without_label_gets_a_pseudo_label() -> None:
    task = task_of()
    table = task.pseudo_labels()
    assert table["id"].tolist() == [f"item{row}" for row in range(24, 240)]
    found = pseudo_label(task.model, task.sampler, epoch=UNSEEN)
    assert table["predicted"].tolist() == found.labels[24:].tolist()
    assert table["confidence"].tolist() == found.confidence[24:].tolist()
    assert table["confidence"].between(0.25, 1).all()


def test_attached_to_nothing_it_gives_no_recording_away() -> None:
    task = task_of(draws=3, attachment="none")
    assert task.refer() == ()
    assert task.companions() == {"references": (), "attachment": {"edges": 4, "how": "none", "seed": 0}}
    asked = questions()
    fit = trainer(1)
    fit.fit(task, task.train_dataloader(), held())
    answers: Any = fit.predict(task, held())
    alone = task.model.eval()(asked["x"], torch.empty(2, 0, dtype=torch.int64), torch.empty(0)).softmax(dim=1)
    torch.testing.assert_close(answers[0]["probabilities"], alone)
    graph = draw_references(task.sampler, pseudo_label(task.model, task.sampler, epoch=UNSEEN).labels, draws=1)[0]
    states = task.model.embed(graph.x, graph.edge_index, graph.edge_weight)
    assert answers[0]["mad"][0].item() == pytest.approx(mean_average_distance(states), abs=1e-6)
    before = task.pseudo_labels()["confidence"]
    torch.nn.init.zeros_(task.model.classifier.conv.lin.weight)  # type: ignore[union-attr, arg-type]
    task.load_state_dict(task.state_dict())
    assert not before.equals(task.pseudo_labels()["confidence"])  # of the weights as they are


@pytest.mark.parametrize("chance", ["exact", "literal"])
@pytest.mark.parametrize("certainty", [0.5, 0.9, 0.99])
def test_as_many_random_edges_as_reach_a_true_label(chance: Any, certainty: float) -> None:
    options = {"draws": 4, "reference_size": 40, "chance": chance, "certainty": certainty}
    task = task_of(edges="auto", **options)
    companions = task.companions()
    exact = chance == "exact"
    counts = [(int((graph.y >= 0).sum()), int((graph.y < 0).sum())) for graph in companions["references"]]
    edges = companions["attachment"]["edges"]
    assert edges == max(min_random_edges(*count, certainty, exact=exact) for count in counts) > 1
    found = task.findings()["attachment"]
    chances = [chance_of_true_label(edges, *count, exact=exact) for count in counts]
    assert min(chances) >= certainty
    assert found == {"how": "random", "edges": edges, "chance": pytest.approx(sum(chances) / 4)}
    # As if the number had been given.
    given = task_of(edges=edges, **options)
    given.references = given.refer()
    with torch.no_grad():
        first, second = (one.eval().predict_step(questions(), 0)["probabilities"] for one in (task, given))
    assert torch.equal(first, second)
    assert given.findings() == {"attachment": found}


def test_edges_that_are_not_drawn_have_no_certainty() -> None:
    assert task_of(attachment="nearest", edges=3).findings() == {"attachment": {"how": "nearest", "edges": 3}}
    assert task_of(attachment="none").findings() == {"attachment": {"how": "none", "edges": 0}}
    for attachment in ("nearest", "none"):
        with pytest.raises(TaskError, match=f"task.attachment is {attachment}; give a number"):
            task_of(edges="auto", attachment=attachment)
    with pytest.raises(TaskError, match=r"task\.certainty"):
        task_of(edges="auto", certainty=0.0)
    with pytest.raises(TaskError, match="no node with a true label"):
        task_of(edges="auto", true_share=0.0).companions()


def test_other_weights_draw_other_references() -> None:
    task = task_of()
    task.references = task.refer()
    task.load_state_dict(task.state_dict())
    assert task.references == ()


@pytest.mark.parametrize("backbone", ["gcn", "gat", "gin", "graphmix", "mlp"])
@pytest.mark.parametrize("options", [{}, {"batch_graphs": 4}, {"sampling": "whole"}])
def test_steps_are_those_of_the_sampler(backbone: str, options: dict[str, Any]) -> None:
    """In whichever form the edges are, the losses of every step are those of the subgraphs as they are drawn."""
    torch.manual_seed(0)
    model = SubgraphSSL(in_channels=16, num_classes=4, hidden_channels=16, backbone=backbone)  # type: ignore[arg-type]
    task = SubgraphClassification(model, 4, **{"per_class": 5, "unlabelled": 30, **options})
    task.use(nodes_of())
    model.eval()
    steps, batches = list(task.train_dataloader()), list(task.sampler.epoch(0))
    assert len(steps) == len(batches) == len(task.train_dataloader())
    for step, batch in zip(steps, batches, strict=True):
        assert torch.equal(step.y, batch.y)
        plain = model(batch.x, batch.edge_index, batch.edge_weight)
        torch.testing.assert_close(task(step), plain, rtol=1e-4, atol=1e-5)


def test_only_the_pool_is_sampled() -> None:
    task = task_of()
    x = nodes_of().x
    assert torch.equal(task.sampler.x, x[:240])
    assert (task.sampler.labels >= 0).sum() == 24


def test_the_whole_pool_as_one_graph() -> None:
    task = task_of(sampling="whole")
    batches = list(task.train_dataloader())
    assert len(batches) == len(task.train_dataloader()) == 1
    expected = Signed()(Data(x=task.sampler.x, y=task.sampler.labels))
    whole = task.model.plan(expected.edge_index, expected.edge_weight, 240)
    assert torch.equal(batches[0].edges.to_dense(), whole.to_dense())  # type: ignore[union-attr]
    assert len(task.refer()[0].x) <= 29  # as a subgraph has
    trainer(3).fit(task, task.train_dataloader())


@pytest.mark.parametrize("sampling", ["subgraphs", "whole"])
def test_edges_by_similarity_tell_no_label(sampling: Any) -> None:
    """Neither in training nor in references: other labels of the same nodes give the same edges."""
    task = task_of(sampling=sampling, draws=2)
    nodes = nodes_of()
    task.use(dataclasses.replace(nodes, graph=Signed(labelled_edges="similarity")))
    drawn = [*task.sampler.epoch(0), *task.refer()]
    for graph in drawn:
        ptr = graph.get("ptr")
        expected = signed_edges(graph.x, torch.full_like(graph.y, -1), ptr=ptr)
        assert torch.equal(graph.edge_index, expected[0])
        assert torch.equal(graph.edge_weight, expected[1])
    assert any((graph.y >= 0).any() for graph in drawn)
    task.use(nodes)
    assert any(
        graph.edge_index.shape != signed_edges(graph.x, torch.full_like(graph.y, -1), ptr=graph.ptr)[0].shape
        for graph in task.sampler.epoch(0)
    )


def test_one_large_graph_says_what_it_answers_on() -> None:
    remark = SubgraphClassification.remark_on
    assert remark({}) == remark({"sampling": "subgraphs"}) == ""
    assert "reference graphs of as many nodes as a sampled subgraph would have" in remark({"sampling": "whole"})
    assert "reference graphs of 1,200 nodes" in remark({"sampling": "whole", "reference_size": 1200})
    assert "by themselves, without edges" in remark({"sampling": "whole", "attachment": "none"})


@pytest.mark.parametrize("name", ["edges", "draws", "per_class", "unlabelled", "batch_graphs", "validate_every"])
def test_numbers_that_make_no_sense(name: str) -> None:
    with pytest.raises(TaskError, match=f"task.{name}"):
        task_of(**{name: 0})


def test_settings_that_make_no_sense() -> None:
    model = task_of().model
    with pytest.raises(TaskError, match="reference_size is 3"):
        SubgraphClassification(model, 4, reference_size=3)
    with pytest.raises(TaskError, match="true_share"):
        SubgraphClassification(model, 4, true_share=1.5)
    with pytest.raises(TaskError, match="class_weights"):
        SubgraphClassification(model, 4, class_weights=[1.0] * 4)
    with pytest.raises(TaskError, match=r"graph\.name to signed"):
        task_of().use(dataclasses.replace(nodes_of(), graph=KNN(k=3)))


def test_losses_that_are_no_numbers_end_a_training() -> None:
    task = task_of()
    with torch.no_grad():
        task.model.classifier.conv.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(TrainingDivergedError, match=r"task\.learning_rate"):
        trainer(1).fit(task, task.train_dataloader())
