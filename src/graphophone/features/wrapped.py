"""What extractors have in common that change the signal before another extractor hears it."""

from __future__ import annotations

from collections.abc import Mapping

from graphophone.features.base import Extractor, Level


class Wrapped(Extractor):
    """Another extractor's features of a changed signal: level, hop and columns are the other's.

    Subclasses give a name, a configuration that holds the extractor's fingerprint, and :meth:`_extract`.

    Args:
        extractor: What is computed.
    """

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self.rate = extractor.rate

    @property
    def level(self) -> Level:
        """As the extractor's."""
        return self.extractor.level

    @property
    def hop(self) -> float | None:
        """As the extractor's."""
        return self.extractor.hop

    @property
    def columns(self) -> tuple[str, ...]:
        """As the extractor's."""
        return self.extractor.columns

    @property
    def dims(self) -> int:
        """As the extractor's."""
        return self.extractor.dims

    def backend(self) -> Mapping[str, str]:
        """As the extractor's."""
        return self.extractor.backend()

    def prepare(self) -> None:
        """As the extractor's."""
        self.extractor.prepare()
