"""Training on one graph that holds everything: labelled, validation and test nodes, with the labels of the first."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data

from graphophone.errors import GraphophoneError
from graphophone.models.subgraph_ssl import SubgraphSSL
from graphophone.nn.sparse import Matrix, SparseMatrix

Select = Literal["accuracy", "loss", "last"]
Wait = Literal["selected", "either"]


@dataclass(frozen=True)
class TransductiveTraining:
    """How long and how fast a network is trained on one graph.

    Args:
        epochs: Most steps; each sees the whole graph.
        patience: Stop after so many steps without a better one on the validation nodes; 0: never.
        wait: What patience waits for: a better step by ``select``, or ``"either"`` an accuracy that is not below the
            best or a loss that is not above it (as in the program of Velickovic et al. 2018).
        select: Which step is kept: best validation ``"accuracy"`` (of equals, the one of lowest validation loss),
            lowest validation ``"loss"``, or the ``"last"``.
        learning_rate: Of Adam.
        weight_decay: L2 penalty.
        decay_heads: Whether it is on the heads, too, or on the shared layers only (as in the program of Kipf and
            Welling 2017).
    """

    epochs: int = 200
    patience: int = 0
    wait: Wait = "selected"
    select: Select = "accuracy"
    learning_rate: float = 0.01
    weight_decay: float = 5e-4
    decay_heads: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.patience < 0 or self.learning_rate <= 0 or self.weight_decay < 0:
            raise GraphophoneError(
                f"{self}: epochs must be at least 1, learning_rate above 0, patience and weight_decay at least 0"
            )
        if self.select not in ("accuracy", "loss", "last"):
            raise GraphophoneError(f'select is {self.select!r}; give "accuracy", "loss" or "last"')
        if self.wait not in ("selected", "either"):
            raise GraphophoneError(f'wait is {self.wait!r}; give "selected" or "either"')


@dataclass(frozen=True)
class TransductiveResult:
    """What came of a training on one graph.

    Attributes:
        logits: Class scores of every node, of the step that was kept ``[N, C]``.
        step: Number of that step, from 0.
        steps: Steps done.
        validation_accuracy: Share of correct validation nodes.
        test_accuracy: Share of correct test nodes; never looked at before the training was over.
    """

    logits: Tensor
    step: int
    steps: int
    validation_accuracy: float
    test_accuracy: float


def fit_transductive(
    model: SubgraphSSL, data: Data, training: TransductiveTraining | None = None, *, seed: int = 0
) -> TransductiveResult:
    """Train a network of nodes on one graph; it is left as it was at the step that is kept.

    Args:
        model: The network, with its self-supervised tasks.
        data: ``x`` ``[N, dims]`` (COO, where few are not zero: steps are many times quicker), ``edge_index``,
            ``y`` ``[N]``, ``train_mask``, ``val_mask``, ``test_mask`` ``[N]``, and ``edge_weight`` ``[E]`` if the graph
            has any.
        training: How; None: as a GCN is published on citation graphs.
        seed: What dropout and corruptions are drawn from; the initial weights are the caller's.
    """
    training = training or TransductiveTraining()
    x = SparseMatrix.from_tensor(data.x) if data.x.is_sparse else data.x
    edges = model.plan(data.edge_index, data.get("edge_weight"), x.shape[0])
    visible = torch.where(data.train_mask, data.y, -1)
    truth = data.y[data.val_mask]
    groups = decayed_groups(model, training.weight_decay, heads=training.decay_heads)
    optimizer = torch.optim.Adam(groups, lr=training.learning_rate, fused=True)
    generator = torch.Generator(device=x.device).manual_seed(seed)
    best, kept = (-float("inf"), -float("inf")), {}
    step = chosen = moved = 0
    highest = lowest = -float("inf")  # accuracy, and loss with its sign turned
    with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for step in range(training.epochs):
            model.train()
            losses = model.losses(x, edges, None, visible, generator=generator)
            optimizer.zero_grad(set_to_none=True)
            model.total(losses, progress=step / training.epochs).backward()
            optimizer.step()
            logits = _logits(model, x, edges)[data.val_mask]
            score = _score(logits, truth, training.select, step)
            if score > best:
                best, chosen = score, step
                kept = copy.deepcopy(model.state_dict())
            if training.wait == "either":
                accuracy, loss = _score(logits, truth, "accuracy", step)
                if accuracy >= highest or loss >= lowest:
                    moved = step
                highest, lowest = max(highest, accuracy), max(lowest, loss)
            else:
                moved = chosen
            if training.patience and step - moved >= training.patience:
                break
    model.load_state_dict(kept)
    logits = _logits(model, x, edges)
    right = logits.argmax(dim=1) == data.y
    return TransductiveResult(
        logits,
        chosen,
        step + 1,
        right[data.val_mask].double().mean().item(),
        right[data.test_mask].double().mean().item(),
    )


def decayed_groups(model: SubgraphSSL, weight_decay: float, *, heads: bool) -> list[dict[str, object]]:
    """Parameters in groups for an optimiser, with the weight decay of each.

    Args:
        model: The network.
        weight_decay: L2 penalty.
        heads: Whether it is on the heads, too, or on the shared layers only.
    """
    shared = list(model.layers.parameters())
    held = {id(parameter) for parameter in shared}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in held]
    return [
        {"params": shared, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": weight_decay if heads else 0.0},
    ]


@torch.no_grad()
def _logits(model: SubgraphSSL, x: Matrix, edges: SparseMatrix) -> Tensor:
    """Class scores of every node, without dropout."""
    model.eval()
    return model(x, edges)


def _score(logits: Tensor, y: Tensor, select: Select, step: int) -> tuple[float, float]:
    """Higher is better."""
    if select == "last":
        return float(step), 0.0
    loss = -F.cross_entropy(logits, y).item()
    accuracy = (logits.argmax(dim=1) == y).double().mean().item()
    return (accuracy, loss) if select == "accuracy" else (loss, accuracy)
