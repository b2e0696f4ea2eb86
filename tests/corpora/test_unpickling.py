"""Published pickles: what data they hold, and that nothing they name is run."""

from __future__ import annotations

import pickle
import subprocess
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphophone.corpora.base import CorpusError
from graphophone.corpora.unpickling import read_pickle

PLAIN: dict[str, Any] = {
    "numbers": [1, 2.5, -(10**30), True, None, 1 + 2j],
    "text": "it\u2019s",
    "containers": ({1, 2}, frozenset({"a"}), (1, (2, [])), OrderedDict(a=1), {(1, 2): "pair"}),
}


def same(one: Any, other: Any) -> bool:
    """Whether two structures hold the same, arrays included."""
    if isinstance(one, np.ndarray):
        numbers = one.dtype.kind in "fc"
        return (
            isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other, equal_nan=numbers)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back(tmp_path: Path, protocol: int) -> None:
    content = {
        **PLAIN,
        "float": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big-endian": np.arange(3, dtype=">i4"),
        "empty": np.zeros((0, 4)),
        "words": np.array(["a", "bcd"]),
        "scalar": np.float32(0.5),
        "flag": np.array([True, False]),
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_pickle(path)
    assert same({**content, "scalar": 0.5}, found)
    assert type(found["scalar"]) is float


@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_objects_and_factories(tmp_path: Path, protocol: int) -> None:
    strided = torch.arange(12.0).reshape(3, 4)[:, 1::2].t()
    factory: defaultdict[str, list[int]] = defaultdict(list, a=[1])
    content = {
        "strided": strided,
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "whole": torch.tensor(3),
        "none": torch.zeros(0, 3),
        "factory": factory,
        "objects": np.array([np.arange(2), None, "x"], dtype=object),
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_pickle(path)
    np.testing.assert_array_equal(found["strided"], strided.numpy())
    assert found["half"].tolist() == [1.5]
    assert found["whole"].item() == 3
    assert found["none"].shape == (0, 3)
    assert found["factory"] == {"a": [1]}
    assert type(found["factory"]) is dict
    assert same(found["objects"], [np.arange(2), None, "x"])


def test_strings_of_python_2(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    # What Python 2 makes of {'k': ['caf\xc3\xa9', 'it\x92s', u'\xe9']} and protocol 2.
    path.write_bytes(
        b"\x80\x02}q\x00U\x01kq\x01]q\x02(U\x05caf\xc3\xa9q\x03U\x04it\x92sq\x04X\x02\x00\x00\x00\xc3\xa9q\x05es."
    )
    assert read_pickle(path) == {"k": ["caf\xe9", "it\u2019s", "\xe9"]}
    # numpy.array([1.0]) of Python 2: the numbers are in a string.
    path.write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85U\x01b\x87Rq\x02"
        b"(K\x01K\x01\x85cnumpy\ndtype\nq\x03U\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x08\x00\x00\x00\x00\x00\x00\xf0?tb."
    )
    np.testing.assert_array_equal(read_pickle(path), [1.0])


@given(
    array=hnp.arrays(
        dtype=st.one_of(hnp.floating_dtypes(endianness="?"), hnp.integer_dtypes(endianness="?"), hnp.boolean_dtypes()),
        shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    protocol=st.integers(0, pickle.HIGHEST_PROTOCOL),
)
def test_arrays_of_any_type_and_shape(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, protocol: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "array.pkl"
    path.write_bytes(pickle.dumps([array], protocol=protocol))
    (found,) = read_pickle(path)
    assert same(array, found)


class Evil:
    """Runs something as it is unpickled."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call[0], self.call[1:]


def test_what_is_named_is_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    path = tmp_path / "a.pkl"
    for evil in (
        Evil(subprocess.getoutput, f"touch {witness}"),
        Evil(eval, f"open({str(witness)!r}, 'w')"),
        Evil(getattr, "x", "upper"),
        Evil(np.load, str(witness)),
        Evil(torch.load, str(witness)),
        Evil(__import__, "os"),
    ):
        for protocol in (0, 2, 4):
            path.write_bytes(pickle.dumps([evil], protocol=protocol))
            with pytest.raises(CorpusError, match=r"a\.pkl: names .*it was not read further"):
                read_pickle(path)
    assert not witness.exists()
    path.write_bytes(b"(S'touch " + str(witness).encode() + b"'\nios\nsystem\n.")
    with pytest.raises(CorpusError, match=r"names os\.system"):
        read_pickle(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # BUILD upon a name: what the name stands for would change.
        (b"\x80\x02cnumpy\ndtype\n}U\x01aK\x01sb.", "changes what a name stands for"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "makes an object of a class"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "damaged"),
        (b"\x80\x02cnumpy\ndtype\nU\x02V8\x85R.", "holds a function or a type"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aU\x05rot13\x86R.", "encodes text as 'rot13'"),
        (b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "makes bytes of something else"),
        (b"\x80\x02U\x01aQ.", "refers to something outside"),
        (b"\x80\x02]q\x00h\x00a.", "holds itself"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R.", "holds an array without numbers"),
        (b"", "damaged"),
        (b"id,label\n1,a\n", "damaged"),
        (pickle.dumps(np.zeros(2, dtype=[("a", "f4")])), "arrays of records"),
        (pickle.dumps(np.zeros(2, dtype="M8[s]")), "arrays of type 'M8'"),
        (pickle.dumps(pd.DataFrame({"a": [1]})), r"names pandas\."),
    ],
)
def test_what_is_no_data_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        read_pickle(path)
    assert "\n" not in str(caught.value)


def test_a_tensor_does_not_reach_beyond_its_numbers(tmp_path: Path) -> None:
    blob = torch.arange(2.0)
    _, args = blob.__reduce_ex__(2)

    class Crafted:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (args[0], 0, (3,), (1,), False, OrderedDict())

    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(Crafted(), protocol=2))
    with pytest.raises(CorpusError, match="reaches beyond its numbers"):
        read_pickle(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"b\.pkl: not found"):
        read_pickle(tmp_path / "b.pkl")
