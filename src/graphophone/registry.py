"""Names for parts: the one mechanism behind corpora, extractors, graphs, models, protocols."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from graphophone.errors import UnknownNameError

T = TypeVar("T")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the known word nearest to ``word``, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


class Registry(Generic[T]):
    """A table from names to the classes (or functions) that make a part.

    Entries are ``"module:attribute"`` strings, imported on first use: ``import graphophone`` stays quick, and an
    optional dependency is asked for only by the part that needs it.

    Args:
        kind: What the entries are, in the singular, for error messages: ``"model"``, ``"corpus"``.
        entries: Name to ``"module:attribute"``.
    """

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self._entries: dict[str, str | Callable[..., T]] = dict(entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def names(self, pattern: str = "*") -> list[str]:
        """Sorted names that match a shell pattern such as ``"glnn*"``."""
        return sorted(fnmatch.filter(self._entries, pattern))

    def register(self, name: str, target: Callable[..., T]) -> None:
        """Add a part of your own under ``name``.

        Raises:
            ValueError: If the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered")
        self._entries[name] = target

    def get(self, name: str) -> Callable[..., T]:
        """The class or function behind ``name``.

        Raises:
            UnknownNameError: If nothing has that name; the text lists what there is.
        """
        if name not in self._entries:
            raise UnknownNameError(
                f"unknown {self.kind} {name!r}.{did_you_mean(name, self._entries)} Available: {', '.join(self.names())}"
            )
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(module), attribute)
        return entry

    def create(self, name: str, /, **config: Any) -> T:
        """Make the part ``name`` with keyword arguments ``config``.

        Raises:
            UnknownNameError: If the name, or a key of ``config``, is unknown; the text lists what there is.
        """
        factory = self.get(name)
        parameters = inspect.signature(factory).parameters.values()
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            accepted = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_POSITIONAL]
            for key in config:
                if key not in accepted:
                    raise UnknownNameError(
                        f"{self.kind} {name!r} has no option {key!r}.{did_you_mean(key, accepted)} "
                        f"Accepted: {', '.join(accepted)}"
                    )
        return factory(**config)
