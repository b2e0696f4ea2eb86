"""Pickles that others publish, read without running anything of what they name.

A pickle is a program: it names functions and has them called. Here no name reaches the function of that name. The few
names that arrays, tensors and plain containers need are played by functions of this module, which take data and give
data; any other name ends the reading.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from graphophone.corpora.base import CorpusError

_DTYPE = re.compile(r"[<>=|]?(?:b1|\?|[iu][1248]|f[248]|c8|c16|[SU]\d+|O8?)")


class _Refused(pickle.UnpicklingError):
    """The file wants more than to hold data."""


class _Name:
    """What a name in a pickle stands for: it can be called, and nothing else can be done with it."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise _Refused("changes what a name stands for")

    def __setstate__(self, state: Any) -> NoReturn:
        raise _Refused("changes what a name stands for")


class _DType:
    """A data type in the making: numbers, text or objects; no fields."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = _text(code)
        self.order = "="

    def __setstate__(self, state: Sequence[Any]) -> None:
        _version, order, subarray, names, fields = state[:5]
        if subarray is not None or names is not None or fields is not None:
            raise _Refused("holds arrays of records; save each field as an array of its own")
        self.order = _text(order)

    def made(self) -> np.dtype:
        """The type itself."""
        if not _DTYPE.fullmatch(self.code) or self.order not in ("<", ">", "=", "|"):
            raise _Refused(f"holds arrays of type {self.code!r}; numbers and text are read")
        return np.dtype("O") if self.code.startswith("O") else np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """An array in the making."""

    __slots__ = ("array",)

    def __init__(self, *_: Any) -> None:
        self.array: np.ndarray | list[Any] | None = None

    def __setstate__(self, state: Sequence[Any]) -> None:
        _version, shape, dtype, fortran, data = state
        self.array = _filled(data, dtype, shape, "F" if fortran else "C")


def _filled(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray | list[Any]:
    """An array of a pickle's bytes, or the flat list of its objects."""
    if not isinstance(dtype, _DType):
        raise _Refused("holds an array without a type")
    kind = dtype.made()
    if kind.kind == "O":
        if not isinstance(data, list):
            raise _Refused("holds an array of objects that are not listed")
        return data
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    return np.frombuffer(raw, dtype=kind).reshape(tuple(map(int, shape)), order="F" if _text(order) == "F" else "C")


def _scalar(dtype: Any, data: Any = b"") -> Any:
    """A single number of an array's type."""
    value = _filled(data, dtype, (), "C")
    if isinstance(value, list):
        raise _Refused("holds a single object of an array")
    return value.item()


def _encoded(text: Any, encoding: Any = "latin1", *_: Any) -> bytes:
    """Bytes that an old protocol has written as text."""
    if _text(encoding) not in ("latin1", "latin-1", "iso-8859-1"):
        raise _Refused(f"encodes text as {_text(encoding)!r}")
    return _text(text).encode("latin1")


def _bytes(data: Any = b"", *encoding: Any) -> bytes:
    """Bytes of an older protocol."""
    if isinstance(data, str):
        return _encoded(data, *encoding)
    if not isinstance(data, (bytes, bytearray)):  # a number would make so many zeros
        raise _Refused("makes bytes of something else than bytes")
    return bytes(data)


def _dictionary(*args: Any) -> dict[Any, Any]:
    """A dictionary of any kind as a plain one; what `defaultdict` would make is not kept."""
    pairs = args[-1] if args and isinstance(args[-1], (list, tuple, dict)) else ()
    return dict(pairs)


def _storage(blob: Any) -> Any:
    """The numbers behind a tensor, one-dimensional, through PyTorch's own reader of weights."""
    import torch

    if not isinstance(blob, bytes):
        raise _Refused("holds a tensor without its bytes")
    storage = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise _Refused("holds a tensor without its numbers")
    return torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)


def _tensor(storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> np.ndarray:
    """A tensor as an array; it cannot reach beyond its numbers."""
    import torch

    if not isinstance(storage, torch.Tensor):
        raise _Refused("holds a tensor without its numbers")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride), default=0) < 0 or (0 not in size and last >= len(storage)):
        raise _Refused("holds a tensor that reaches beyond its numbers")
    view = storage.as_strided(tuple(size), tuple(stride), offset)
    return (view.float() if view.dtype == torch.bfloat16 else view).numpy().copy()


def _no_class(*_: Any) -> NoReturn:
    raise _Refused("makes an object of a class")


def _numpy(functions: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Names of functions in both places in which versions of NumPy keep them."""
    return {f"{core}.{name}": call for core in ("numpy.core", "numpy._core") for name, call in functions.items()}


_KNOWN: dict[str, Callable[..., Any]] = {
    **_numpy({"multiarray _reconstruct": _Array, "multiarray scalar": _scalar, "numeric _frombuffer": _filled}),
    "numpy ndarray": _no_class,  # named as an argument only
    "numpy dtype": _DType,
    "_codecs encode": _encoded,
    "builtins bytes": _bytes,
    "builtins bytearray": _bytes,
    "builtins complex": complex,
    "builtins dict": _dictionary,
    "builtins list": lambda *items: list(*items),
    "builtins set": lambda *items: set(*items),
    "builtins frozenset": lambda *items: frozenset(*items),
    "builtins int": _no_class,  # of a defaultdict
    "builtins float": _no_class,
    "collections OrderedDict": _dictionary,
    "collections defaultdict": _dictionary,
    "torch.storage _load_from_bytes": _storage,
    "torch._utils _rebuild_tensor_v2": _tensor,
}


class _Restricted(pickle.Unpickler):
    """Knows the names above, and no other."""

    def find_class(self, module: str, name: str) -> Any:
        call = _KNOWN.get(f"{'builtins' if module == '__builtin__' else module} {name}")
        if call is None:
            raise _Refused(f"names {module}.{name}; arrays, tensors, numbers, text and plain containers are read")
        return _Name(call)

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _Refused("refers to something outside of it")


def read_pickle(path: str | Path) -> Any:
    """What a pickle of plain data holds: numbers, text, containers and arrays (of NumPy, or tensors of PyTorch).

    Nothing that the file names is called. Pickles of Python 2 are read too; their strings, and all bytes, become text:
    UTF-8, else Windows-1252. Tensors become arrays, and arrays of objects flat lists.

    Raises:
        CorpusError: If the file is missing or damaged, or holds anything else.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            # With "bytes", the strings of Python 2 that are an array's numbers stay what they are.
            return _plain(_Restricted(stream, encoding="bytes").load())
    except FileNotFoundError:
        raise CorpusError(f"{file}: not found; check the path") from None
    except _Refused as error:
        raise CorpusError(f"{file}: {error}; it was not read further") from error
    except RecursionError as error:
        raise CorpusError(f"{file}: holds itself, or is nested too deep; it was not read") from error
    except Exception as error:  # a damaged pickle can end in nearly any
        told = " ".join(str(error).split()) or type(error).__name__
        raise CorpusError(f"{file}: damaged, or no pickle ({told}); fetch it again") from error


def _plain(value: Any) -> Any:
    """Data without the helpers of the reading."""
    if isinstance(value, (bytes, bytearray)):
        return _text(bytes(value))
    if isinstance(value, _Array):
        if value.array is None:
            raise _Refused("holds an array without numbers")
        return _plain(value.array)
    if isinstance(value, np.ndarray):
        return np.char.decode(value, "utf-8", "replace") if value.dtype.kind == "S" else value
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(map(_plain, value))
    if isinstance(value, (_Name, _DType)):
        raise _Refused("holds a function or a type")
    return value


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("cp1252", "replace")
    return str(value)
