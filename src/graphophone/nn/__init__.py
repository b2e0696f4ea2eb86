"""Layers, each usable alone: plain tensors and ``edge_index`` in, tensors out."""
