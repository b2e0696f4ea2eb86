"""Cora, CiteSeer and PubMed: papers that cite each other, as Planetoid divides them (Yang et al., 2016)."""

from __future__ import annotations

import pickletools
from pathlib import Path

import numpy as np
import pandas as pd
from torch_geometric.data import Data
from torch_geometric.io import read_planetoid_data
from torch_geometric.io.planetoid import read_file

from graphophone.corpora.base import Corpus, CorpusError
from graphophone.corpora.given import Given
from graphophone.registry import did_you_mean

GRAPHS = ("Cora", "CiteSeer", "PubMed")

CLASSES = {
    "Cora": (
        "theory",
        "reinforcement learning",
        "genetic algorithms",
        "neural networks",
        "probabilistic methods",
        "case based",
        "rule learning",
    ),
    "CiteSeer": (
        "artificial intelligence",
        "machine learning",
        "information retrieval",
        "databases",
        "agents",
        "human-computer interaction",
    ),
}
"""Names of the classes, which the files number; known by how many papers are in each."""

# What the published files are made of. They are pickles, and a pickle can name any function.
_ALLOWED = {
    "__builtin__ list",
    "_codecs encode",
    "collections defaultdict",
    "numpy dtype",
    "numpy ndarray",
    "numpy._core.multiarray _reconstruct",
    "numpy.core.multiarray _reconstruct",
    "scipy.sparse._csr csr_matrix",
    "scipy.sparse.csr csr_matrix",
}
_FILES = ("x", "tx", "allx", "y", "ty", "ally", "graph")


def load(root: Path, *, graph: str = "Cora") -> Corpus:
    """Citation graphs: papers as items, with their words as vectors and their citations as edges.

    There are no recordings: use the extractor and the graph that are called `given`. Columns besides the usual:
    ``node``, the number of the paper in the graph. The split is the public one, 20 labelled papers of each class, 500
    for validation, 1,000 for testing; the others are kept without label.

    Args:
        root: Folder with ``Cora/raw/ind.cora.x`` and so on, as ``torch_geometric.datasets.Planetoid`` keeps them.
        graph: ``Cora``, ``CiteSeer`` or ``PubMed``.

    Raises:
        CorpusError: If there is no such graph, a file is missing or damaged, or one could do more than hold data.
    """
    data = load_citations(root, graph)
    count = int(data.y.max()) + 1
    names = CLASSES.get(graph, ())
    classes = names if len(names) == count else tuple(str(number) for number in range(count))
    split = np.full(data.num_nodes, "", dtype=object)
    for part, mask in (("train", data.train_mask), ("validation", data.val_mask), ("test", data.test_mask)):
        split[mask.numpy()] = part
    node = np.arange(data.num_nodes)
    label = np.array(classes, dtype=object)[data.y.numpy()]
    table = pd.DataFrame({"id": node.astype(str), "label": np.where(split == "", "", label), "split": split})
    return Corpus.from_table(
        table.assign(node=node),
        name=graph.lower(),
        classes=classes,
        rows=None,
        unlabelled=True,
        languages=("en",),
        url="https://github.com/kimiyoung/planetoid",
        citation="Yang, Cohen and Salakhutdinov, Revisiting semi-supervised learning with graph embeddings, ICML 2016",
        given=Given(data.x.to_dense().numpy(), data.edge_index.numpy()),
    )


def load_citations(root: str | Path, graph: str) -> Data:
    """A citation graph with the public split and row-normalised features, read from the published files.

    The files are pickles. Before they are opened, it is made sure that they name nothing but arrays, sparse matrices,
    lists and dictionaries.

    Args:
        root: Folder with ``Cora/raw/ind.cora.x`` and so on.
        graph: `"Cora"`, `"CiteSeer"` or `"PubMed"`.

    Returns:
        `Data` with sparse `x` (COO), `edge_index`, `y`, `train_mask`, `val_mask`, `test_mask`.

    Raises:
        CorpusError: If there is no such graph, a file is missing or damaged, or one could do more than hold data.
    """
    if graph not in GRAPHS:
        raise CorpusError(
            f"unknown citation graph {graph!r}.{did_you_mean(graph, GRAPHS)} Available: {', '.join(GRAPHS)}"
        )
    folder = Path(root) / graph / "raw"
    for name in (*_FILES, "test.index"):
        path = folder / f"ind.{graph.lower()}.{name}"
        if not path.is_file():
            raise CorpusError(f"{path}: not found; fetch the Planetoid files, or let PyG's Planetoid do so")
        if name != "test.index":
            _refuse_code(path)
    data = _read(folder, graph.lower())
    data.x = (data.x / data.x.sum(dim=1, keepdim=True).clamp(min=1.0)).to_sparse()
    return data


def _refuse_code(path: Path) -> None:
    """Raise unless a pickle is made of data alone."""
    try:
        named = [
            str(argument) if code.name == "GLOBAL" else code.name
            for code, argument, _ in pickletools.genops(path.read_bytes())
            if code.name in ("GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID")
        ]
    except (ValueError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: damaged ({error}); fetch it again") from error
    other = sorted(set(named) - _ALLOWED)
    if other:
        raise CorpusError(f"{path}: names {other[0]!r}, which no Planetoid file does; it was not opened")


def _read(folder: Path, prefix: str) -> Data:
    """The files as one graph.

    Raises:
        CorpusError: If one of them is damaged, or they do not belong together.
    """
    for name in (*_FILES, "test.index"):
        try:
            read_file(str(folder), prefix, name)
        except Exception as error:  # a damaged pickle can end in nearly any
            path = folder / f"ind.{prefix}.{name}"
            raise CorpusError(f"{path}: damaged ({_line(error)}); fetch it again") from error
    try:
        return read_planetoid_data(str(folder), prefix)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CorpusError(
            f"{folder / f'ind.{prefix}.*'}: the files do not belong together ({_line(error)}); fetch them again"
        ) from error


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
