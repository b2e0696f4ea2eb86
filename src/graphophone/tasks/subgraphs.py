"""Few labels, many recordings: a network of nodes learns in small graphs drawn from a pool."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphophone.evaluation.embeddings import mean_average_distance
from graphophone.graphs.attachment import Attachment, attach, chance_of_true_label, min_random_edges
from graphophone.graphs.signed import Signed
from graphophone.graphs.subgraphs import SubgraphSampler, WholePool
from graphophone.models.attached import NODES, PseudoLabels, draw_references, predict_attached, pseudo_label
from graphophone.models.subgraph_ssl import SubgraphSSL
from graphophone.nn.dense import DenseMatrix
from graphophone.nn.sparse import Edges
from graphophone.tasks.nodes import Nodes, NodeTask, Recordings
from graphophone.tasks.optimization import Optimization, Schedule, TaskError

Sampling = Literal["subgraphs", "whole"]

# Pseudo-labels are read from the subgraphs of an epoch that no training has: the same whenever they are asked for, so
# that a network is validated exactly as it is tested and deployed.
UNSEEN = 2**32 - 1


# Nodes of a graph that is cheaper as a matrix than as a list of edges.
SMALL = 160


class Step(NamedTuple):
    """What one step of the optimiser sees: arguments of `SubgraphSSL.losses`."""

    x: Tensor
    y: Tensor
    edges: Edges
    edge_weight: Tensor | None = None
    batch: Tensor | None = None

    def to(self, device: torch.device) -> Step:
        """The same on a device."""
        moved: Any = [None if part is None else cast(Any, part).to(device) for part in self]
        return Step(*moved)


class SubgraphClassification(NodeTask):
    """The losses of a `SubgraphSSL` in sampled subgraphs; validated and tested as it will be used.

    One subgraph (or `batch_graphs`) is one step of the optimiser; an epoch has seen every unlabelled recording once.
    For an answer the pool is pseudo-labelled, reference graphs are drawn from it, and each new recording is attached to
    copies of them (`graphophone.models.attached`). Shirian, Somandepalli, Guha (IEEE JSTSP, 2022), section III.

    Args:
        model: The network, with its self-supervised tasks and the weights of its losses.
        num_classes: Number of labels.
        per_class: Labelled recordings of each class in a subgraph (12 for speech and 2 for events, as published).
        unlabelled: Unlabelled recordings in a subgraph.
        batch_graphs: Subgraphs in one step.
        sampling: ``"subgraphs"``; or ``"whole"``, a control: the pool is one graph, and a step is an epoch. It is
            validated, tested and deployed on reference graphs as the other, of ``reference_size`` nodes.
        edges: T, edges of each new recording; ``"auto"``: the fewest random ones with which a recording reaches a node
            with a true label with probability ``certainty`` or more, in every reference graph.
        certainty: See ``edges``; 0.9 in one place of the paper, above 0.99 in another.
        chance: How that probability is counted: ``"exact"``, or ``"literal"`` as the paper's formula has it; see
            `graphophone.graphs.attachment.chance_of_true_label`.
        draws: R, reference graphs that answers are averaged over (1 as published).
        attachment: Whether a new recording is attached to ``"random"`` nodes, as published, to the ``"nearest"``, or
            to ``"none"``: the graph then serves training alone, and no recording of it is given away with the network.
        reference_size: Nodes of a reference graph; None: as a subgraph of the training has.
        true_share: Share of the nodes of a reference graph with a true label, as far as there are; None: as they fall.
        validate_every: Epochs from one validation to the next.
        optimizer: ``"adam"`` (as published) or ``"adamw"`` (decoupled weight decay).
        learning_rate: Peak learning rate.
        weight_decay: Weight decay; biases and other vectors are spared with ``"adamw"``.
        betas: Decay of the optimiser's running means of the gradient and of its square.
        schedule: ``"constant"``, ``"cosine"``, ``"onecycle"``, over the optimiser steps of the whole training, or
            ``"multistep"``.
        warmup: Share of the steps in which the rate rises.
        warmup_steps: The same as a number of steps, in place of the share.
        milestones: Numbers of epochs done at which ``"multistep"`` lowers the rate.
        gamma: What ``"multistep"`` multiplies it by.
        class_weights: None: subgraphs hold all classes equally often.
        seed: What the randomness of each epoch is derived from.
    """

    def __init__(
        self,
        model: SubgraphSSL,
        num_classes: int,
        per_class: int = 12,
        unlabelled: int = 5,
        batch_graphs: int = 1,
        sampling: Sampling = "subgraphs",
        edges: int | Literal["auto"] = 4,
        certainty: float = 0.9,
        chance: Literal["exact", "literal"] = "exact",
        draws: int = 10,
        attachment: Attachment = "random",
        reference_size: int | None = None,
        true_share: float | None = None,
        validate_every: int = 1,
        optimizer: Literal["adam", "adamw"] = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        schedule: Schedule = "constant",
        warmup: float = 0.0,
        warmup_steps: int = 0,
        milestones: Sequence[int] = (),
        gamma: float = 0.5,
        class_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        optimization = Optimization(
            optimizer, learning_rate, weight_decay, betas, schedule, warmup, warmup_steps, milestones, gamma
        )
        super().__init__(model, num_classes, optimization, validate_every, seed)
        counts = {
            "per_class": per_class,
            "unlabelled": unlabelled,
            "batch_graphs": batch_graphs,
            "edges": 1 if edges == "auto" else edges,
            "draws": draws,
            "validate_every": validate_every,
        }
        for name, value in counts.items():
            if value < 1:
                raise TaskError(f"task.{name} must be at least 1, not {value}")
        if reference_size is not None and reference_size < num_classes:
            raise TaskError(
                f"task.reference_size is {reference_size}, but a reference graph holds a node of each of {num_classes} "
                "classes; raise it"
            )
        if true_share is not None and not 0 <= true_share <= 1:
            raise TaskError(f"task.true_share must be a share, from 0 to 1, not {true_share}")
        if not 0 < certainty <= 1:
            raise TaskError(f"task.certainty must be a probability above 0, at most 1, not {certainty}")
        if edges == "auto" and attachment != "random":
            raise TaskError(
                f"task.edges auto counts edges drawn by lot, and task.attachment is {attachment}; give a number"
            )
        if class_weights is not None:
            raise TaskError("sampled subgraphs hold every class equally often: set training.class_weights to false")
        self.num_classes = num_classes
        self.per_class = per_class
        self.unlabelled = unlabelled
        self.batch_graphs = batch_graphs
        self.sampling = sampling
        self.edges = edges
        self.certainty = certainty
        self.chance = chance
        self.draws = draws
        self.attachment: Attachment = attachment
        self.reference_size = reference_size
        self.true_share = true_share
        self.references: tuple[Data, ...] = ()
        self._ids: list[str] = []
        self._pseudo: PseudoLabels | None = None  # as the references, of the weights as they are
        self._sample: Data | None = None  # what is measured where nothing is attached

    @classmethod
    def remark_on(cls, options: Mapping[str, Any]) -> str:
        """What a network that has learned on one large graph is asked on."""
        if options.get("sampling") != "whole":
            return ""
        learned = "The network learns on the whole pool as one graph"
        if options.get("attachment") == "none":
            return f"{learned}; validation and test items are answered for by themselves, without edges."
        size = options.get("reference_size")
        nodes = f"{size:,} nodes" if size else "as many nodes as a sampled subgraph would have"
        return (
            f"{learned}, but answers for validation and test items beside reference graphs of {nodes} "
            "(task.reference_size): what it loses may come from either."
        )

    def use(self, nodes: Nodes) -> None:
        """Make the sampler of the pool: training items with and without label, and no others.

        Raises:
            TaskError: If the graph has no rules for signed edges.
            GraphError: If a class has no labelled item.
        """
        rules = nodes.graph
        if not isinstance(rules, Signed):
            raise TaskError(f"subgraphs are drawn with signed edges, not with {rules!r}; set graph.name to signed")
        pool = torch.cat([nodes.train, nodes.unlabelled]).sort().values
        labels = torch.where(torch.isin(pool, nodes.train), nodes.y[pool], -1)
        kind = WholePool if self.sampling == "whole" else SubgraphSampler
        self.sampler = kind(
            nodes.x[pool],
            labels,
            num_classes=self.num_classes,
            per_class=self.per_class,
            unlabelled=self.unlabelled,
            batch_graphs=self.batch_graphs,
            **rules.rules,
            seed=self.seed,
        )
        self._ids = [nodes.ids[row] for row in pool.tolist()]

    def train_dataloader(self) -> _Epochs:
        """The subgraphs of the current epoch."""
        return _Epochs(self)

    def forward(self, batch: Step) -> Tensor:
        """Logits ``[nodes, classes]`` of a batch of subgraphs."""
        return self.model(batch.x, batch.edges, batch.edge_weight)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """On the CPU nothing is to be moved, and nothing is looked through for it."""
        if device.type == "cpu":
            return batch
        return batch.to(device) if isinstance(batch, Step) else super().transfer_batch_to_device(batch, device, 0)

    def training_step(self, batch: Step, batch_idx: int) -> Tensor:  # noqa: D102
        losses = self.model.losses(batch.x, batch.edges, batch.edge_weight, batch.y, batch.batch)
        done = (self.current_epoch + batch_idx / max(1, len(self.sampler))) / max(1, self.trainer.max_epochs or 1)
        total = self.model.total(losses, progress=done)
        self.count_losses(total, losses)
        return total

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Other weights take the pool for something else: references are drawn anew."""
        self._forget()
        return super().load_state_dict(*args, **kwargs)

    def refer(self) -> tuple[Data, ...]:
        """Reference graphs, of the pool as the weights that the task has see it; none where nothing is attached."""
        if self.attachment == "none":
            return ()
        self._forget()
        return self._drawn(self.draws)

    def _drawn(self, draws: int) -> tuple[Data, ...]:
        """Graphs of the pool with pseudo-labels."""
        graphs = draw_references(
            self.sampler,
            self._taken_for().labels,
            draws=draws,
            size=self.reference_size,
            true_share=self.true_share,
            seed=self.seed,
        )
        return _on(self.device, graphs)

    def _taken_for(self) -> PseudoLabels:
        """What the weights as they are take the pool for; computed once."""
        if self._pseudo is None:
            self._pseudo = pseudo_label(self.model, self.sampler, epoch=UNSEEN)
        return self._pseudo

    def _forget(self) -> None:
        """Drop what follows from the weights."""
        self.references, self._pseudo, self._sample = (), None, None

    def on_validation_epoch_start(self) -> None:  # noqa: D102
        self._forget()
        self.references = self.refer()

    def on_predict_epoch_start(self) -> None:  # noqa: D102
        self.references = _on(self.device, self.references) or self.refer()

    def on_fit_end(self) -> None:
        """The references of the last validation are not those of the weights that are kept."""
        self._forget()

    def validation_step(self, batch: Recordings, batch_idx: int) -> None:  # noqa: D102
        found = predict_attached(self.model, self.references, batch["x"], batch["ids"], **self._how)
        self.validate_on(found.probabilities, batch["y"])

    def predict_step(self, batch: Recordings, batch_idx: int) -> dict[str, Tensor]:
        """Answers for some recordings.

        Returns:
            ``row`` ``[clips]``, ``probabilities`` ``[clips, classes]``, ``states`` before the heads ``[clips, dims]``,
            and ``mad``, the mean average distance of the states of the graphs of these recordings in the first draw (of
            one graph drawn from the pool, where nothing is attached) ``[clips]``. With several draws that differ,
            ``spread``: the standard deviation of the probability of the likeliest class over them ``[clips]``.
        """
        x, ids = batch["x"], batch["ids"]
        found = predict_attached(self.model, self.references, x, ids, states=self.model.embed, **self._how)
        assert found.states is not None  # noqa: S101 - asked for
        answers = {
            "row": batch["row"],
            "probabilities": found.probabilities,
            "states": found.states,
            "mad": torch.full((len(x),), self._distance(x, ids)),
        }
        if len(self.references) > 1:
            likeliest = found.probabilities.argmax(dim=1, keepdim=True)
            answers["spread"] = found.spread.gather(1, likeliest)[:, 0]
        return answers

    def _distance(self, x: Tensor, ids: Sequence[str]) -> float:
        """Mean average distance of the states of the graphs of recordings in the first draw; memory is bounded.

        Args:
            x: Their features ``[clips, dims]``.
            ids: Their names ``[clips]``.
        """
        if self.attachment == "none":
            self._sample = self._sample or self._drawn(1)[0]
            (graph,) = _on(self.device, [self._sample])
            return mean_average_distance(self.model.embed(graph.x, graph.edge_index, graph.edge_weight))
        reference = self.references[0]
        step = max(1, NODES // (len(reference.x) + 1))
        total = 0.0
        for begin in range(0, len(x), step):
            part = slice(begin, begin + step)
            graphs = attach(reference, x[part], ids[part], **self._how)
            states = self.model.embed(graphs.x, graphs.edge_index, graphs.edge_weight)
            total += mean_average_distance(states, graphs.ptr) * graphs.num_graphs
        return total / len(x)

    def pseudo_labels(self) -> pd.DataFrame:
        """``id``, ``predicted`` (number of the class) and ``confidence`` of every recording without label in the pool.

        Of the weights as they are; what the reference graphs take these recordings for.
        """
        pseudo = self._taken_for()
        rows = torch.nonzero(pseudo.labels >= 0)[:, 0].cpu()
        return pd.DataFrame(
            {
                "id": [self._ids[row] for row in rows.tolist()],
                "predicted": pseudo.labels.cpu()[rows].numpy(),
                "confidence": pseudo.confidence.cpu()[rows].numpy(),
            }
        )

    @property
    def _how(self) -> dict[str, Any]:
        """How recordings are attached to the references."""
        return {
            "edges": self._fewest() if self.edges == "auto" else self.edges,
            "how": self.attachment,
            "seed": self.seed,
        }

    def _fewest(self) -> int:
        """T with which every reference has the wanted certainty."""
        for graph in self.references:
            if not graph.true:
                raise TaskError(
                    "a reference graph has no node with a true label, so no number of edges is enough for task.edges "
                    "auto; raise task.reference_size, or set task.true_share or task.edges"
                )
        exact = self.chance == "exact"
        return max(min_random_edges(g.true, g.pseudo, self.certainty, exact=exact) for g in self.references)

    def findings(self) -> dict[str, Any]:
        """``attachment``: how recordings are attached (``how``, ``edges``), and for random edges ``chance``.

        The latter is the probability that one of the edges reaches a true label, mean over the references.
        """
        self.references = self.references or self.refer()
        how = self._how
        found: dict[str, Any] = {"how": how["how"], "edges": 0 if how["how"] == "none" else how["edges"]}
        if how["how"] == "random":
            exact = self.chance == "exact"
            chances = [chance_of_true_label(how["edges"], g.true, g.pseudo, exact=exact) for g in self.references]
            found["chance"] = sum(chances) / len(chances)
        return {"attachment": found}

    def companions(self) -> dict[str, Any]:
        """The reference graphs, if any, with the names of their recordings, and how new ones are attached."""
        self.references = self.references or self.refer()
        references = _on("cpu", self.references)
        for graph in references:
            graph.id = [self._ids[row] for row in graph.node.tolist()]
        return {"references": references, "attachment": self._how}


def _on(device: str | torch.device, graphs: Sequence[Data]) -> tuple[Data, ...]:
    """Graphs on a device; those given stay where they are (`Data.to` moves a graph itself)."""
    return tuple(copy.copy(graph).to(device) for graph in graphs)


class _Epochs:
    """The steps of whichever epoch a task is in."""

    def __init__(self, task: SubgraphClassification) -> None:
        self.task = task

    def __iter__(self) -> Iterator[Step]:
        sampler, epoch = self.task.sampler, self.task.current_epoch
        if sampler.batch_graphs == 1:
            for part in sampler.parts(epoch):
                yield from self._one_by_one(part)
            return
        for batch in sampler.epoch(epoch):
            sizes = batch.ptr.diff()
            if int(sizes.min()) == int(sizes.max()) <= SMALL and self.task.model.reads_matrices:
                graphs = self.task.model.plan_small(batch.edge_index, batch.edge_weight, batch.ptr)
                yield Step(batch.x, batch.y, DenseMatrix.joined(graphs), None, batch.batch)
            else:
                yield Step(batch.x, batch.y, batch.edge_index, batch.edge_weight, batch.batch)

    def __len__(self) -> int:
        return len(self.task.sampler)

    def _one_by_one(self, part: Data) -> Iterator[Step]:
        """The subgraphs of a part, with their edges as the network reads them quickest."""
        ptr = part.ptr.tolist()
        sizes = [end - begin for begin, end in itertools.pairwise(ptr)]
        xs, ys, model = part.x.split(sizes), part.y.split(sizes), self.task.model
        if max(sizes) <= SMALL and model.reads_matrices:
            graphs = model.plan_small(part.edge_index, part.edge_weight, part.ptr)
            yield from (Step(x, y, graph) for x, y, graph in zip(xs, ys, graphs, strict=True))
            return
        # Edges are sorted by target, and none leaves its graph.
        bounds = torch.searchsorted(part.edge_index[1].contiguous(), part.ptr).tolist()
        for number, (x, y) in enumerate(zip(xs, ys, strict=True)):
            edges = slice(bounds[number], bounds[number + 1])
            yield Step(x, y, model.plan(part.edge_index[:, edges] - ptr[number], part.edge_weight[edges], len(x)))
