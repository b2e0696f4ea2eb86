"""Layers, each usable alone: plain tensors and ``edge_index`` in, tensors out."""

from graphophone.nn.aggregation import max_relative, neighbour_max
from graphophone.nn.attention import GraphAttention
from graphophone.nn.clustering import Clusters, centroid_spread, pooled_centroids, sampled_centroids
from graphophone.nn.conv_ffn import ConvFFN
from graphophone.nn.convolution import GINConv, GraphLSTMConv, NeighbourLSTM
from graphophone.nn.cross_attention import CrossAttention, CrossModalStream, Sequences
from graphophone.nn.density import density_peaks
from graphophone.nn.dialogue import DialogueBatch, DialogueGraph, EdgeTables
from graphophone.nn.dialogue_hypergraph import DialogueHypergraphConv
from graphophone.nn.drop_path import DropPath
from graphophone.nn.edge_gate import HardConcreteGate
from graphophone.nn.ffn import FFN
from graphophone.nn.fuzzy import fuzzy_c_means, fuzzy_centroids, fuzzy_memberships
from graphophone.nn.gated_convolution import GatedGAT, GatedGCN, GatedStack, MultiFrequencyConv
from graphophone.nn.gated_fusion import GatedSum
from graphophone.nn.graph_attention_v2 import GraphAttentionV2
from graphophone.nn.graph_stack import GraphStack
from graphophone.nn.graphmix import GraphMix
from graphophone.nn.grid import grid_neighbours, pool_grid
from graphophone.nn.kmeans import k_means
from graphophone.nn.latent_attention import LatentGraphStack
from graphophone.nn.lhg import GraphConv, GridClustering, LHGBlock
from graphophone.nn.lstm import NeighbourPlan, NeighbourPlanError, graph_lstm
from graphophone.nn.m3net import M3NetStack
from graphophone.nn.mmgcn import MMGCNStack
from graphophone.nn.party import SpeakerPartyEncoder
from graphophone.nn.pooling import POOLINGS, create_pooling, list_poolings
from graphophone.nn.position import PositionCloseness, position_closeness
from graphophone.nn.recurrent import FrameRNN
from graphophone.nn.self_supervision import SelfSupervision
from graphophone.nn.signed import SignedGATConv, SignedGCNConv, SignedGINConv, signed_norm
from graphophone.nn.stem import ConvStem, Downsample
from graphophone.nn.turn_encoder import TextSets, TurnEncoder
from graphophone.nn.typed_stack import TypedStack

__all__ = [
    "FFN",
    "POOLINGS",
    "Clusters",
    "ConvFFN",
    "ConvStem",
    "CrossAttention",
    "CrossModalStream",
    "DialogueBatch",
    "DialogueGraph",
    "DialogueHypergraphConv",
    "Downsample",
    "DropPath",
    "EdgeTables",
    "FrameRNN",
    "GINConv",
    "GatedGAT",
    "GatedGCN",
    "GatedStack",
    "GatedSum",
    "GraphAttention",
    "GraphAttentionV2",
    "GraphConv",
    "GraphLSTMConv",
    "GraphMix",
    "GraphStack",
    "GridClustering",
    "HardConcreteGate",
    "LHGBlock",
    "LatentGraphStack",
    "M3NetStack",
    "MMGCNStack",
    "MultiFrequencyConv",
    "NeighbourLSTM",
    "NeighbourPlan",
    "NeighbourPlanError",
    "PositionCloseness",
    "SelfSupervision",
    "Sequences",
    "SignedGATConv",
    "SignedGCNConv",
    "SignedGINConv",
    "SpeakerPartyEncoder",
    "TextSets",
    "TurnEncoder",
    "TypedStack",
    "centroid_spread",
    "create_pooling",
    "density_peaks",
    "fuzzy_c_means",
    "fuzzy_centroids",
    "fuzzy_memberships",
    "graph_lstm",
    "grid_neighbours",
    "k_means",
    "list_poolings",
    "max_relative",
    "neighbour_max",
    "pool_grid",
    "pooled_centroids",
    "position_closeness",
    "sampled_centroids",
    "signed_norm",
]
