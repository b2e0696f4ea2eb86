"""Protocols, metrics, statistics, figures and the report of a run."""

from graphophone.evaluation.protocols import (
    PROTOCOLS,
    Protocol,
    ProtocolError,
    Split,
    create_protocol,
    list_protocols,
)

__all__ = ["PROTOCOLS", "Protocol", "ProtocolError", "Split", "create_protocol", "list_protocols"]
