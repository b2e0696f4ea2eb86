"""One graph of all training utterances, one step on all of it: HemoGAT's learning, and its answers for new ones."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torchmetrics.classification import MulticlassConfusionMatrix

from graphophone.graphs.modal import ModalKNN
from graphophone.models.bank import Bank, edges_among, has, taken
from graphophone.models.hemogat import HemoGAT
from graphophone.nn.cross_attention import Sequences
from graphophone.tasks.base import choice, weighted_f1
from graphophone.tasks.nodes import Nodes, NodeTask, Recordings
from graphophone.tasks.optimization import Optimization, TaskError

Scope = Literal["bank", "split", "transductive"]
Loss = Literal["cross_entropy", "gce"]
Plateau = Literal["plateau", "constant", "cosine", "onecycle"]


@dataclass(frozen=True, eq=False)
class _Graph:
    """The training graph of one route.

    Attributes:
        x: Standardised vectors ``[N, dims]``.
        y: Classes, -1 for those without label ``[N]``.
        plan: Edges as the network reads them.
        sequences: Token vectors by modality, where there are any.
    """

    x: Tensor
    y: Tensor
    plan: Any
    sequences: Mapping[str, Sequences] | None = None


class UtteranceGraph(NodeTask):
    """Full-batch training of a `HemoGAT` on the graph of the training utterances.

    An epoch is one step on the whole graph (Nguyen et al., 2026; section 1.4 of its method has 100 of them). New
    utterances are answered for among the training utterances: their neighbours come from these alone, whose states do
    not change, so that one utterance gets the same answer as among a thousand (`graphophone.models.bank`). Training
    items without label are nodes, too; they bring no loss.

    The released code trains without dropout and with frozen batch statistics from the second epoch on, because it
    calls ``eval()`` and never ``train()`` again (``legacy_eval_training``), and answers for test items in a graph of
    their own, where each answer hangs on which others are there (``eval_scope: split``). Both are here to repeat it.

    With ``model.alone`` the networks of one modality are trained beside, on all items that have it; each keeps the
    weights of its own best epoch on the validation items.

    Args:
        model: The network.
        num_classes: Number of labels.
        eval_scope: Where answers come from: ``"bank"``, the training utterances; ``"split"``, a graph of the items that
            are asked for (as released; no model for new utterances follows from it, so none is kept);
            ``"transductive"``, one graph of all items, in which training takes place already.
        loss: ``"cross_entropy"``, or ``"gce"``, the generalised one (Zhang and Sabuncu, 2018), whose paper is cited.
        q: Of the generalised cross-entropy: 1 is the mean absolute error, towards 0 it becomes cross-entropy.
        label_smoothing: Share of each label that is spread over all classes.
        steps: Optimiser steps in an epoch.
        legacy_eval_training: See above.
        validate_every: Epochs from one validation to the next.
        optimizer: ``"adam"`` (L2 penalty, as released) or ``"adamw"``.
        learning_rate: Peak learning rate.
        weight_decay: Weight decay.
        betas: Decay of the optimiser's running means.
        schedule: ``"plateau"``: the rate is multiplied by ``factor`` when the validation loss has not fallen for
            ``plateau_patience`` epochs (as released: 0.5 and 15; the paper has 0.1 and 30); ``"constant"``,
            ``"cosine"`` and ``"onecycle"`` need no validation items.
        factor: See ``schedule``.
        plateau_patience: See ``schedule``.
        warmup: Share of the steps in which the rate rises; not with ``"plateau"``.
        class_weights: Weight of each class in the loss.
        seed: What the randomness of each epoch is derived from.

    Raises:
        TaskError: If an option does not fit.
    """

    monitor: ClassVar[str] = "validation_choice"
    monitor_words: ClassVar[str] = "validation weighted F1"

    model: HemoGAT  # type: ignore[assignment]

    def __init__(
        self,
        model: HemoGAT,
        num_classes: int,
        eval_scope: Scope = "bank",
        loss: Loss = "cross_entropy",
        q: float = 0.7,
        label_smoothing: float = 0.0,
        steps: int = 1,
        legacy_eval_training: bool = False,
        validate_every: int = 1,
        optimizer: Literal["adam", "adamw"] = "adam",
        learning_rate: float = 1e-4,
        weight_decay: float = 5e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        schedule: Plateau = "plateau",
        factor: float = 0.5,
        plateau_patience: int = 15,
        warmup: float = 0.0,
        class_weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(model, HemoGAT):
            raise TaskError(f"task utterance_graph trains hemogat, not {model.model_name}; choose another task.name")
        if steps < 1 or validate_every < 1:
            raise TaskError(f"task.steps and task.validate_every must be at least 1, not {steps} and {validate_every}")
        if not 0 < q <= 1:
            raise TaskError(f"task.q must lie in (0, 1], not {q}")
        if not 0 <= label_smoothing < 1:
            raise TaskError(f"task.label_smoothing must lie in [0, 1), not {label_smoothing}")
        if loss == "gce" and label_smoothing:
            raise TaskError("task.label_smoothing is for cross_entropy; set it to 0 with task.loss gce")
        if not 0 < factor < 1 or plateau_patience < 0:
            raise TaskError(
                f"task.factor must lie in (0, 1) and task.plateau_patience be 0 or more, not {factor} and "
                f"{plateau_patience}"
            )
        if schedule == "plateau" and warmup:
            raise TaskError("task.warmup goes with a schedule over steps: set task.schedule to constant or cosine")
        if eval_scope != "split" and model.cmt_axis == "batch":
            raise TaskError(
                "model.cmt_axis 'batch' answers for a whole split at once: set task.eval_scope to split, or choose "
                "another axis"
            )
        if eval_scope != "bank" and model.alone:
            raise TaskError(
                f"model.alone is true, but networks of one modality answer from the bank alone and task.eval_scope is "
                f"{eval_scope}: set one of them otherwise"
            )
        course: Any = "constant" if schedule == "plateau" else schedule
        optimization = Optimization(optimizer, learning_rate, weight_decay, betas, course, warmup)
        super().__init__(cast(Any, model), num_classes, optimization, validate_every, seed)
        self.eval_scope: Scope = eval_scope
        self.loss: Loss = loss
        self.q = q
        self.label_smoothing = label_smoothing
        self.steps = steps
        self.legacy_eval_training = legacy_eval_training
        self.schedule: Plateau = schedule
        self.factor = factor
        self.plateau_patience = plateau_patience
        weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weight", weight, persistent=False)
        self.num_classes = num_classes
        *before, rate = self.curves
        self.curves = (*before, "validation_weighted_f1", "validation_choice", rate)
        self._rules: ModalKNN | None = None
        self._graphs: dict[str, _Graph] = {}
        self._bank: Bank | None = None
        self._known: tuple[Tensor, Tensor] | None = None
        self._best: dict[str, tuple[float, dict[str, Tensor]]] = {}
        self._held: list[tuple[Tensor, Tensor, Mapping[str, Sequences] | None]] = []
        self._edges: dict[tuple[str, bytes], Any] = {}

    # ------------------------------------------------------------------ the graph

    def use(self, nodes: Nodes) -> None:
        """Build the graph of the training items; in the transductive scope that of all items, labels of training ones.

        Raises:
            TaskError: If the graph has no rules for modalities, or a network no item that it could learn from.
        """
        rules = nodes.graph
        if not isinstance(rules, ModalKNN):
            raise TaskError(f"utterances are joined by modality, not with {rules!r}; set graph.name to modal_knn")
        if self.eval_scope == "bank" and rules.direction == "reference":
            raise TaskError(
                "graph.direction is reference, with which a new utterance hears only itself: set task.eval_scope to "
                "split"
            )
        self._rules = rules
        every = torch.arange(len(nodes.x))
        pool = every if self.eval_scope == "transductive" else torch.cat([nodes.train, nodes.unlabelled]).sort().values
        visible = torch.full_like(nodes.y, -1)
        visible[nodes.train] = nodes.y[nodes.train]
        self._x, self._y = nodes.x[pool], visible[pool]
        self._ids = [nodes.ids[row] for row in pool.tolist()]
        self._graphs, self._edges = {}, {}
        self._bank = self._known = None
        for name, network in self.model.routes().items():
            rows = has(self._x, network)
            if not bool((self._y[rows] >= 0).any()):
                raise TaskError(
                    f"no training item with a label has {' and '.join(network.needs)}, which the network of {name} "
                    "reads: give such features, or set model.modality"
                )
            x = self._x[rows]
            plan = network.plan(edges_among(network, rules, x), len(x))
            self._graphs[name] = _Graph(x, self._y[rows], plan, taken(nodes.sequences, pool[rows]))

    def train_dataloader(self) -> list[int]:
        """As many steps as an epoch has."""
        return list(range(self.steps))

    def forward(self, batch: Any = None) -> Tensor:
        """Logits ``[N, classes]`` of the nodes of the training graph, whatever the batch."""
        graphs = {name: self._on_device(name) for name in self.model.routes()}
        results = [
            network(graphs[name].x, graphs[name].plan, sequences=graphs[name].sequences)
            for name, network in self.model.routes().items()
        ]
        return results[0]

    def _on_device(self, name: str) -> _Graph:
        """The training graph of a route."""
        graph = self._graphs[name]
        if graph.x.device != self.device:
            tokens = graph.sequences
            moved = None if tokens is None else {key: part.to(self.device) for key, part in tokens.items()}
            graph = _Graph(graph.x.to(self.device), graph.y.to(self.device), _moved(graph.plan, self.device), moved)
            self._graphs[name] = graph
        return graph

    # ------------------------------------------------------------------ learning

    def on_train_epoch_start(self) -> None:  # noqa: D102
        super().on_train_epoch_start()
        self.model.train(not self.legacy_eval_training or self.current_epoch == 0)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:  # noqa: D102
        losses = {}
        for name, network in self.model.routes().items():
            graph = self._on_device(name)
            known = graph.y >= 0
            logits = network(graph.x, graph.plan, sequences=graph.sequences)
            losses[f"loss_{name}"] = self.loss_of(logits[known], graph.y[known])
        total = torch.stack(list(losses.values())).sum()
        self.count_losses(total, losses)
        self._bank = self._known = None
        return total

    def loss_of(self, logits: Tensor, y: Tensor) -> Tensor:
        """The loss of some utterances.

        Args:
            logits: ``[N, classes]``.
            y: ``[N]``.
        """
        weight = cast("Tensor | None", self.class_weight)
        if self.loss == "cross_entropy":
            return F.cross_entropy(logits, y, weight=weight, label_smoothing=self.label_smoothing)
        right = logits.softmax(dim=1).gather(1, y[:, None])[:, 0].clamp(min=1e-7)
        each = (1 - right**self.q) / self.q
        return each.mean() if weight is None else (each * weight[y]).sum() / weight[y].sum()

    def configure_optimizers(self) -> Any:  # noqa: D102
        found = super().configure_optimizers()
        if self.schedule != "plateau":
            return found
        if not self.trainer.fit_loop.epoch_loop.val_loop._data_source.is_defined():
            warnings.warn("there are no validation items: the learning rate stays as it is", stacklevel=2)
            return found
        falling = torch.optim.lr_scheduler.ReduceLROnPlateau(found, factor=self.factor, patience=self.plateau_patience)
        course = {"scheduler": falling, "monitor": "validation_loss", "frequency": self.validate_every}
        return {"optimizer": found, "lr_scheduler": {**course, "interval": "epoch", "strict": False}}

    # ------------------------------------------------------------------ answers

    @property
    def bank(self) -> Bank:
        """The training utterances with the weights as they are."""
        if self._rules is None:
            raise TaskError("the task has no items yet; call use first")
        if self._bank is None:
            plans = {name: self._on_device(name).plan for name in self.model.routes()}
            self._bank = Bank(self.model, self._rules, self._x.to(self.device), plans=plans)
        return self._bank

    def _answer(self, batch: Recordings) -> tuple[Tensor, Tensor]:
        """Probabilities ``[clips, classes]`` and states ``[clips, dims]`` of the items of a batch."""
        x, tokens = batch["x"].to(self.device), batch.get("sequences")
        if self.eval_scope == "bank":
            found = self.bank.answer(x, edges=self._known_edges(batch["row"], x), sequences=tokens)
            return found.probabilities, found.states
        if self.eval_scope == "split":
            return self.bank.answer_among(x, edges=self._known_edges(batch["row"], x), sequences=tokens)
        if self._known is None:
            name = next(iter(self.model.routes()))
            self._known = self.bank.known(self._on_device(name).sequences)
        logits, states = self._known
        row = batch["row"].to(self.device)
        return logits[row].softmax(dim=1), states[row]

    def _known_edges(self, row: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Edges of items that are asked for again in every validation."""
        found = {}
        for name, network in self.model.routes().items():
            key = name, row.cpu().numpy().tobytes()
            if key not in self._edges:
                part = x[has(x, network)]
                among = self.eval_scope == "split"
                self._edges[key] = self.bank.edges_among(name, part) if among else self.bank.edges(name, part)
            found[name] = self._edges[key]
        return found

    def on_validation_epoch_start(self) -> None:  # noqa: D102
        self._bank = self._known = None
        self._held = []

    def on_predict_epoch_start(self) -> None:  # noqa: D102
        self._bank = self._known = None

    def validation_step(self, batch: Recordings, batch_idx: int) -> None:  # noqa: D102
        self.validate_on(self._answer(batch)[0], batch["y"])
        self._held.append((batch["x"], batch["y"], batch.get("sequences")))

    def on_validation_epoch_end(self) -> None:
        """Log what chooses the epoch; keep each network of one modality where it is best."""
        f1 = weighted_f1(self.validation_confusion.compute())
        self.log("validation_weighted_f1", f1, prog_bar=True)
        self.log("validation_choice", choice(f1, self.validation_loss.compute()))
        super().on_validation_epoch_end()
        self._keep_alone()

    def _keep_alone(self) -> None:
        """Compare the networks of one modality with what they were at their best."""
        if not self.model.alone or not self._held:
            return
        x, y = (torch.cat([held[place] for held in self._held]).to(self.device) for place in (0, 1))  # type: ignore[misc]
        tokens = _joined([held[2] for held in self._held])
        for name, network in self.model.routes().items():
            rows = has(x, network)
            if name not in self.model.alone or not bool(rows.any()):
                continue
            key = name, b"validation"
            if key not in self._edges:
                self._edges[key] = self.bank.edges(name, x[rows])
            asked = taken(tokens, rows.nonzero()[:, 0])
            probabilities = self.bank.answer_by(name, x[rows], self._edges[key], asked)[0].softmax(dim=1)
            confusion = MulticlassConfusionMatrix(self.num_classes).to(self.device)(probabilities, y[rows])
            score = float(weighted_f1(confusion))
            if name not in self._best or score > self._best[name][0]:
                weights = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
                self._best[name] = score, weights

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:  # noqa: D102
        checkpoint["alone"] = {name: {"score": score, "weights": w} for name, (score, w) in self._best.items()}

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:  # noqa: D102
        self._best = {name: (kept["score"], kept["weights"]) for name, kept in checkpoint.get("alone", {}).items()}

    def adopt(self, last: Mapping[str, Any], *, best: bool) -> None:
        """Give each network of one modality the weights of its own best epoch."""
        if best:
            for name, kept in last.get("alone", {}).items():
                self.model.alone[name].load_state_dict(kept["weights"])
        self._bank = self._known = None

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Other weights show other states."""
        self._bank = self._known = None
        return super().load_state_dict(*args, **kwargs)

    def predict_step(self, batch: Recordings, batch_idx: int) -> dict[str, Tensor]:
        """``row`` ``[clips]``, ``probabilities`` ``[clips, classes]`` and ``states`` before the last layers."""
        probabilities, states = self._answer(batch)
        return {"row": batch["row"], "probabilities": probabilities, "states": states}

    def companions(self) -> dict[str, Any] | None:
        """The training utterances, beside which new ones are answered for; None where answers need the whole split."""
        if self.eval_scope != "bank":
            return None
        edges = torch.empty(2, 0, dtype=torch.int64)
        bank = Data(x=self._x.cpu(), y=self._y.cpu(), edge_index=edges, edge_weight=torch.empty(0), id=self._ids)
        return {"references": (bank,), "attachment": {"how": "bank"}}


def _moved(plan: Any, device: torch.device) -> Any:
    """Edges as a network reads them, on a device; those of nodes with types are by relation or modality."""
    if isinstance(plan, Mapping):
        return {key: part.to(device) for key, part in plan.items()}
    return plan.to(device)


def _joined(parts: Sequence[Mapping[str, Sequences] | None]) -> dict[str, Sequences] | None:
    """Token vectors of several batches, one after the other."""
    held = [part for part in parts if part is not None]
    if not held:
        return None
    return {
        name: Sequences(
            torch.cat([part[name].values for part in held]), torch.cat([part[name].lengths for part in held])
        )
        for name in held[0]
    }
