"""What turns hear of each other, as arrays, as a list and drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import LineCollection, PathCollection
from torch import Tensor

from graphophone.errors import GraphophoneError
from graphophone.evaluation.figures import to_svg
from graphophone.inference.dialogue_picture import SPEAKERS, draw_conversation, draw_dialogue
from graphophone.inference.turn_explanations import ConversationExplanation
from graphophone.inference.turn_relations import TurnRelations
from graphophone.models.dialogue import DialogueClassifier
from graphophone.nn.dialogue import DialogueBatch, DialogueGraph, EdgeTables

NAMES = ("text", "audio")


class Weighs(DialogueClassifier):
    """Weighs edges by the places of their ends, and attends evenly."""

    def relations(self, batch: DialogueBatch) -> dict[str, EdgeTables | Tensor]:
        graph = DialogueGraph(batch.present, batch.speaker)
        place = torch.arange(batch.mask.size(1), dtype=torch.float32)
        within = graph.within * (1 + 10 * place[:, None] + place)
        nodes = batch.present.flatten(1).float()
        shape = (*batch.present.shape, *batch.present.shape[1:])
        latent = (nodes[:, :, None] * nodes[:, None] / nodes.sum(1)[:, None, None]).view(shape)
        return {"graph": EdgeTables(within, -0.5 * graph.across), "latent": latent}


def dialogues() -> DialogueBatch:
    """Two of 2 and 4 turns; the second turn of the longer one has no text."""
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    present = mask[:, None].repeat(1, 2, 1)
    present[1, 0, 1] = False
    x = {name: torch.randn(2, 4, width) for name, width in (("text", 3), ("audio", 2))}
    still = torch.zeros(2, 4, dtype=torch.int64)
    return DialogueBatch(x, present, mask, still, still - 1, still - 1)


def turns(count: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "label": [["happy", "$x_1$"][i % 2] for i in range(count)],
            "confidence": np.linspace(0.4, 0.9, count),
            "speaker": [["Anna", "Ben"][i % 2] for i in range(count)],
        }
    )


def test_relations_of_one_dialogue() -> None:
    batch = dialogues()
    short, long = (TurnRelations.of(Weighs(), batch, i) for i in range(2))
    assert (short.turns, long.turns) == (2, 4)
    assert short.edges()[["source", "target", "weight"]].values.tolist() == [
        [0, 1, 11.0],
        [0, 1, 11.0],
        [1, 0, 2.0],
        [1, 0, 2.0],
        *[[turn, turn, -0.5] for turn in (0, 0, 1, 1)],
    ]
    # 3 turns with text, 4 with audio, both ways; 3 turns with both.
    assert len(long.edges()) == 3 * 2 + 4 * 3 + 3 * 2
    into = long.edges(turn=1)
    assert (into["target"] == 1).all()
    assert set(into["target_modality"]) == {"audio"}
    assert into["weight"].tolist() == [14.0, 13.0, 11.0]
    attention = long.attention()
    assert attention is not None
    np.testing.assert_allclose(attention.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(attention[0], np.array([2, 1, 2, 2]) / 7, atol=1e-6)
    # They outlive a file.
    again = TurnRelations.from_arrays({**long.arrays(), "other": np.zeros(3)})
    assert again.modalities == NAMES
    pd.testing.assert_frame_equal(again.edges(), long.edges())
    np.testing.assert_array_equal(again.latent, long.latent)


def test_a_network_without_graph() -> None:
    bare = TurnRelations.of(DialogueClassifier(), dialogues(), 1)
    assert bare.edges().empty
    assert bare.attention() is None
    figure = draw_dialogue(turns(4), TurnRelations.from_arrays(bare.arrays()))
    assert len(figure.axes) == 3
    assert not [part for part in figure.axes[2].collections if isinstance(part, LineCollection)]


def test_what_is_drawn() -> None:
    relations = TurnRelations.of(Weighs(), dialogues(), 1)
    table = turns(4).assign(truth=["happy", None, "sad", "$x_1$"])
    figure = draw_dialogue(table, relations, title="$call", edges=5, turn=2, scores=np.array([0.1, -0.2, 0.3, 0.0]))
    labels, confidence, graph, attention, scores = figure.axes
    assert [text.get_text() for text in labels.texts] == ["happy", "$x_1$", "happy\n(sad)", "$x_1$"]
    np.testing.assert_allclose([bar.get_height() for bar in confidence.patches[:4]], table["confidence"])
    (lines,) = [part for part in graph.collections if isinstance(part, LineCollection)]
    into = relations.edges(2).head(5)
    assert len(lines.get_segments()) == 5
    assert len(relations.edges(2)) > 5
    ends = {(round(float(way[0, 0])) - 1, round(float(way[-1, 0])) - 1) for way in lines.get_segments()}
    assert ends == set(zip(into["source"], into["target"], strict=True))
    above = {
        round(float(way[0, 0])): way[12, 1] - way[0, 1] > 0 for way in lines.get_segments() if way[0, 0] != way[-1, 0]
    }
    assert above == {1: True, 2: True, 4: False}  # earlier turns are heard from above
    nodes = [len(part.get_offsets()) for part in graph.collections if isinstance(part, PathCollection)]
    assert nodes == [3, 1, 4, 0]  # text and where it lacks, audio and where it lacks
    assert graph.get_title(loc="left").startswith(f"5 of {len(relations.edges(2))} edges into turn 3")
    assert [text.get_text() for text in graph.get_legend().get_texts()] == ["Anna", "Ben"]
    assert attention.images[0].get_array().shape == (4, 4)
    np.testing.assert_allclose([bar.get_height() for bar in scores.patches[:4]], [0.1, -0.2, 0.3, 0])
    assert to_svg(figure, "a").startswith("<svg")


def test_what_little_turns_add_to_each_other_is_seen() -> None:
    influence = np.array([[0.9, 0.02, 0.0], [-0.04, 0.8, 0.01], [0.0, 0.0, 0.7]])
    relations = TurnRelations(("text",), np.ones((1, 3), dtype=bool))
    explained = ConversationExplanation("call", turns(3), relations, influence, np.zeros((3, 1)))
    image = draw_conversation(explained).axes[-2].images[0]  # the last axes are its scale
    assert image.get_clim() == (-0.04, 0.04)
    shades = image.cmap(image.norm(influence))[..., 3]
    np.testing.assert_allclose(shades[[1, 0, 1], [0, 1, 2]], [1.0, 0.5, 0.25], atol=0.02)
    assert shades[0, 2] < 0.01
    assert np.diag(image.get_array()).max() == 0


@pytest.mark.parametrize("count", [1, 200])
def test_any_length(count: int) -> None:
    present = np.ones((1, count), dtype=bool)
    table = turns(count).assign(speaker=[f"person {i % 9}" for i in range(count)])
    figure = draw_dialogue(table, TurnRelations(("text",), present))
    shown = figure.axes[2].get_legend().get_texts()
    assert len(shown) == (1 if count == 1 else len(SPEAKERS) + 1)
    assert len(figure.axes[0].texts) == (1 if count == 1 else 0)  # so many labels could not be read
    figure.draw_without_rendering()


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(GraphophoneError, match="no turn to draw"):
        draw_dialogue(turns(0), TurnRelations(("text",), np.ones((1, 0), dtype=bool)))
    with pytest.raises(GraphophoneError, match="those of 3 turns, not of 2"):
        draw_dialogue(turns(2), TurnRelations(("text",), np.ones((1, 3), dtype=bool)))
