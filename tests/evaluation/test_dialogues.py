"""What else is measured of a network of conversations: fewer modalities, turn by turn, an example."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from graphophone.dialogues import Turns
from graphophone.evaluation.dialogues import (
    cut,
    dialogue_findings,
    joined,
    subset_results,
    typical_dialogue,
    unfolding_results,
)
from graphophone.evaluation.turns import EXAMPLE_FILE, UNFOLDED_TURNS
from graphophone.inference.turn_relations import TurnRelations
from graphophone.models.dialogue import DialogueClassifier, DialogueOutput
from graphophone.nn.dialogue import DialogueBatch, DialogueGraph, EdgeTables

CLASSES = ["calm", "upset"]
WIDTHS = {"text": 1, "audio": 1}


class Sums(DialogueClassifier):
    """A turn is upset where the numbers of all the turns that it hears, itself too, have a positive sum."""

    def __init__(self, future: int | None = None, widths: dict[str, int] = WIDTHS) -> None:
        super().__init__()
        self.in_channels, self.num_classes, self.future = dict(widths), 2, future
        self.scale = nn.Parameter(torch.ones(1))
        self.dropout = nn.Dropout(0.9)

    def states(self, batch: DialogueBatch) -> Tensor:
        own = torch.stack([part[..., 0] for part in batch.x.values()]).sum(dim=0) * self.scale
        heard = DialogueGraph(batch.mask[:, None], batch.speaker, future=self.future).hears[:, 0]
        return self.dropout(heard.float() @ own[..., None])

    def forward(self, batch: DialogueBatch) -> DialogueOutput:
        states = self.states(batch)
        return DialogueOutput(torch.cat([torch.zeros_like(states), states], dim=-1), {})

    def relations(self, batch: DialogueBatch) -> dict[str, EdgeTables | Tensor]:
        graph = DialogueGraph(batch.present, batch.speaker)
        return {"graph": EdgeTables(graph.within.float(), graph.across.float())}


def batch_of(
    lengths: list[int], *, seed: int = 0, speakers: int = 2, labelled: float = 1.0
) -> tuple[DialogueBatch, pd.DataFrame]:
    """Random conversations in one batch, and the table of their turns."""
    rng = np.random.default_rng(seed)
    count = sum(lengths)
    x = torch.from_numpy(rng.standard_normal((count, 2)).astype(np.float32))
    x[rng.random(count) < 0.3, 1] = torch.nan  # without sound
    speaker = np.arange(count) % speakers
    y = torch.from_numpy(np.where(rng.random(count) < labelled, rng.integers(0, 2, count), -1))
    places = np.split(np.arange(count), np.cumsum(lengths)[:-1])
    dialogue = np.repeat([f"talk{number}" for number in range(len(lengths))], lengths)
    table = pd.DataFrame(
        {"id": [f"t{i}" for i in range(count)], "dialogue": dialogue, "speaker": np.array(["ann", "ben"])[speaker]}
    )
    return Turns.of(x, WIDTHS, speaker).batch(places, y), table


def expected(batch: DialogueBatch, given: list[int], whole: bool) -> tuple[int, float]:
    """Turns and accuracy, turn by turn."""
    right = total = 0
    for b in range(len(batch)):
        own = sum(list(batch.x.values())[m][b, :, 0] for m in given)
        for t in range(int(batch.lengths[b])):
            if batch.y[b, t] < 0:
                continue
            heard = own[: int(batch.lengths[b])] if whole else own[: t + 1]  # type: ignore[index]
            right += int((heard.sum() > 0) == (batch.y[b, t] == 1))
            total += 1
    return total, right / total


def test_subsets_of_modalities() -> None:
    batch, _ = batch_of([5, 1, 8], labelled=0.8)
    model = Sums().train()
    found = subset_results(model, [batch], CLASSES)
    assert list(found) == ["text", "audio", "text+audio"]
    for name, given in {"text": [0], "audio": [1], "text+audio": [0, 1]}.items():
        turns, accuracy = expected(batch, given, whole=True)
        assert (found[name]["n"], found[name]["wa"]) == (turns, pytest.approx(accuracy))
        assert np.sum(found[name]["confusion"]) == turns
    assert model.training  # as it was
    one, _ = batch_of([3])
    alone = DialogueBatch({"text": one.x["text"]}, one.present[:, :1], one.mask, one.speaker, one.y, one.row)
    assert subset_results(Sums(widths={"text": 1}), [alone], CLASSES) == {}
    assert subset_results(model, [], CLASSES) == {}


def test_answers_as_a_conversation_unfolds() -> None:
    batches = [batch_of([6, 2, 9], seed=1, labelled=0.7)[0], batch_of([1, 4], seed=2)[0]]
    found = unfolding_results(Sums(), batches, CLASSES)
    for name, whole in (("at_once", False), ("whole", True)):
        parts = [expected(batch, [0, 1], whole) for batch in batches]
        total = sum(turns for turns, _ in parts)
        assert found[name]["n"] == total
        assert found[name]["wa"] == pytest.approx(sum(turns * share for turns, share in parts) / total)
    assert found["at_once"]["wa"] != found["whole"]["wa"]
    # A network that hears no later turn gives in whole conversations what the other one gives turn by turn.
    assert unfolding_results(Sums(future=0), batches, CLASSES) == {}
    causal = subset_results(Sums(future=0), batches, CLASSES)["text+audio"]
    assert causal == found["at_once"]


def test_very_long_conversations_are_not_unfolded() -> None:
    batch, _ = batch_of([UNFOLDED_TURNS + 1, 3])
    found = unfolding_results(Sums(), [batch], CLASSES)
    assert found["at_once"]["n"] == found["whole"]["n"] == 3
    assert unfolding_results(Sums(), [batch_of([UNFOLDED_TURNS + 1])[0]], CLASSES) == {}


@pytest.mark.parametrize("pairs", [1, 100, 10**6])
def test_how_many_are_answered_at_once_changes_nothing(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [batch_of([6, 2, 9], seed=1, labelled=0.7)[0], batch_of([1, 4], seed=2)[0]]
    found = unfolding_results(Sums(), batches, CLASSES)
    monkeypatch.setattr("graphophone.evaluation.dialogues.AT_ONCE", pairs)
    assert unfolding_results(Sums(), batches, CLASSES) == found


def test_joining_and_cutting() -> None:
    first, second = batch_of([3, 1])[0], batch_of([2, 5], seed=1)[0]
    whole = joined([first, second])
    assert whole.lengths.tolist() == [3, 1, 2, 5]
    for batch, which in ((first, [0, 1]), (second, [2, 3])):
        back = cut(whole, torch.tensor(which))
        for name, part in batch.x.items():
            assert torch.equal(back.x[name], part)
        for name in ("present", "mask", "speaker", "y", "row"):
            assert torch.equal(getattr(back, name), getattr(batch, name)), name
    part = cut(whole, torch.tensor([3, 3, 0]), torch.tensor([1, 4, 2]))
    assert part.lengths.tolist() == [1, 4, 2]
    assert torch.equal(part.x["text"][1], second.x["text"][1, :4])
    assert not part.x["text"][0, 1:].any()
    assert not part.present[0, :, 1:].any()
    assert (part.y[2, 2:] == -1).all()
    assert (part.row[2, 2:] == -1).all()


def test_the_drawn_conversation_has_several_speakers_and_a_common_length() -> None:
    long, short = batch_of([40, 11], seed=3)[0], batch_of([12], seed=4, speakers=1)[0]
    chosen = typical_dialogue([long, short])
    assert chosen is not None
    assert chosen.mask.shape == (1, 11)
    assert torch.equal(chosen.row[0], long.row[1, :11])
    assert typical_dialogue([batch_of([4], labelled=0.0)[0]]) is None


def test_what_is_kept_of_a_training(tmp_path: Path) -> None:
    batch, table = batch_of([5, 12], labelled=0.9)
    table["text"] = [f"words {i}" for i in range(len(table))]
    model = Sums()
    found = dialogue_findings(model, iter([batch]), table, CLASSES, tmp_path / "fold")
    assert set(found) == {"subsets", "unfolding"}
    assert set(dialogue_findings(Sums(future=0), [batch], table, CLASSES, tmp_path)) == {"subsets"}
    with np.load(tmp_path / "fold" / EXAMPLE_FILE, allow_pickle=False) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    assert kept["id"].tolist() == table["id"].tolist()[5:]
    assert kept["text"].tolist() == table["text"].tolist()[5:]
    assert set(kept["speaker"]) == {"ann", "ben"}
    assert str(kept["dialogue"]) == "talk1"
    y = batch.y[1].numpy()
    assert [name or None for name in kept["label"]] == [None if i < 0 else CLASSES[i] for i in y]
    assert set(kept["predicted"]) == {CLASSES[int(float(sum(part[1].sum() for part in batch.x.values())) > 0)]}
    assert ((kept["confidence"] >= 0.5) & (kept["confidence"] <= 1)).all()
    relations = TurnRelations.from_arrays(kept)
    assert relations.modalities == ("text", "audio")
    assert relations.turns == 12
    assert len(relations.edges()) == int(DialogueGraph(batch.present[1:], batch.speaker[1:]).num_edges)


def test_what_the_table_does_not_know_stays_empty(tmp_path: Path) -> None:
    batch, table = batch_of([4])
    dialogue_findings(Sums(), [batch], table.drop(columns="speaker"), CLASSES, tmp_path)
    with np.load(tmp_path / EXAMPLE_FILE, allow_pickle=False) as arrays:
        assert arrays["speaker"].tolist() == [""] * 4
        assert arrays["text"].tolist() == [""] * 4
