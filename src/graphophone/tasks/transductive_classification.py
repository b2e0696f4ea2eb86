"""All items are nodes of one graph that is there beforehand, test items among them: their labels are not."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch_geometric.data import Data

from graphophone.models.subgraph_ssl import SubgraphSSL
from graphophone.nn.sparse import Matrix, SparseMatrix
from graphophone.tasks.nodes import Nodes, NodeTask, Recordings
from graphophone.tasks.optimization import Optimization
from graphophone.tasks.transductive import decayed_groups

# Up to this share of values that are not zero, products with a sparse matrix are quicker than with a dense one.
SPARSE = 0.2


class TransductiveClassification(NodeTask):
    """The losses of a `SubgraphSSL` on one graph of all items: a step is an epoch.

    Transductive: features and edges of validation and test items are seen in training, as citation graphs are
    published (Kipf and Welling 2017; Table III of Shirian et al., 2022). There is no answer for items that were not
    there, and therefore no model folder. With a graph that is built from features (`signed`) it is a bound on what
    edges between recordings can bring, not an evaluation of new ones. `graphophone.tasks.transductive.fit_transductive`
    is the same training without files.

    Args:
        model: The network, with its self-supervised tasks and the weights of its losses.
        num_classes: Number of labels.
        learning_rate: Of Adam.
        weight_decay: L2 penalty.
        decay_heads: Whether it is on the heads, too, or on the shared layers only.
        validate_every: Epochs from one validation to the next.
        class_weights: None: labelled items weigh the same.
        seed: What the randomness of each epoch is derived from.
    """

    remark: ClassVar[str] = (
        "Transductive: features and edges of all items, those of the test too, are seen in training; labels of "
        "the test are not."
    )
    monitor: ClassVar[str] = "validation_wa"
    monitor_words: ClassVar[str] = "validation WA"

    def __init__(
        self,
        model: SubgraphSSL,
        num_classes: int,
        learning_rate: float = 0.01,
        weight_decay: float = 5e-4,
        decay_heads: bool = False,
        validate_every: int = 1,
        class_weights: Any = None,
        seed: int = 0,
    ) -> None:
        optimization = Optimization("adam", learning_rate, weight_decay)
        super().__init__(model, num_classes, optimization, validate_every, seed)
        self.decay_heads = decay_heads
        self._data = Data()
        self._read: tuple[Matrix, SparseMatrix] | None = None
        self._states = torch.empty(0)
        self._probabilities = torch.empty(0)

    def use(self, nodes: Nodes) -> None:
        """Take all items and their edges; labels of training items only.

        Raises:
            GraphError: If the graph is `given` and there is none.
        """
        visible = torch.full_like(nodes.y, -1)
        visible[nodes.train] = nodes.y[nodes.train]
        self._data = nodes.graph(Data(x=nodes.x, y=visible, edge_index=nodes.edge_index))
        self._read = None

    @property
    def _graph(self) -> tuple[Matrix, SparseMatrix]:
        """Features and edges as the network reads them, on its device."""
        if self._read is None or self._read[1].device != self.device:
            data = self._data.to(self.device)
            few = data.x.count_nonzero() < SPARSE * data.x.numel()
            x = SparseMatrix.from_tensor(data.x) if few else data.x
            self._read = x, self.model.plan(data.edge_index, data.get("edge_weight"), len(data.x))
        return self._read

    def train_dataloader(self) -> list[int]:
        """One step."""
        return [0]

    def forward(self, batch: Any = None) -> Tensor:
        """Logits ``[items, classes]`` of all items, whatever the batch."""
        return self.model(*self._graph)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:  # noqa: D102
        x, edges = self._graph
        losses = self.model.losses(x, edges, None, self._data.y.to(self.device))
        total = self.model.total(losses, progress=self.current_epoch / max(1, self.trainer.max_epochs or 1))
        self.count_losses(total, losses)
        return total

    def _answer(self) -> None:
        """States and probabilities of all items with the weights as they are."""
        graph = self._graph
        with torch.no_grad():
            self._states = self.model.embed(*graph)
            self._probabilities = self.model(*graph).softmax(dim=1)

    def on_validation_epoch_start(self) -> None:  # noqa: D102
        self._answer()

    def on_predict_epoch_start(self) -> None:  # noqa: D102
        self._answer()

    def validation_step(self, batch: Recordings, batch_idx: int) -> None:  # noqa: D102
        self.validate_on(self._probabilities[batch["row"]], batch["y"])

    def predict_step(self, batch: Recordings, batch_idx: int) -> dict[str, Tensor]:
        """``row``, ``probabilities`` ``[items, classes]`` and ``states`` before the heads ``[items, dims]``."""
        row = batch["row"]
        return {"row": row, "probabilities": self._probabilities[row], "states": self._states[row]}

    def companions(self) -> None:
        """None: the network answers for the nodes of its graph, which are all in ``predictions.csv``."""

    def configure_optimizers(self) -> Any:  # noqa: D102
        groups = decayed_groups(self.model, self.optimization.weight_decay, heads=self.decay_heads)
        return torch.optim.Adam(groups, lr=self.optimization.learning_rate)
