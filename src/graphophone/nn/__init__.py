"""Layers, each usable alone: plain tensors and ``edge_index`` in, tensors out."""

from graphophone.nn.attention import GraphAttention
from graphophone.nn.convolution import GINConv, GraphLSTMConv, NeighbourLSTM
from graphophone.nn.lstm import NeighbourPlan, NeighbourPlanError, graph_lstm
from graphophone.nn.pooling import POOLINGS, create_pooling, list_poolings
from graphophone.nn.recurrent import FrameRNN

__all__ = [
    "POOLINGS",
    "FrameRNN",
    "GINConv",
    "GraphAttention",
    "GraphLSTMConv",
    "NeighbourLSTM",
    "NeighbourPlan",
    "NeighbourPlanError",
    "create_pooling",
    "graph_lstm",
    "list_poolings",
]
