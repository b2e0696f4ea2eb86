"""Graph neural networks on sound."""

__version__ = "0.1.0"
