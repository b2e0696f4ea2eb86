from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import global_mean_pool

from graphophone import audio
from graphophone.errors import GraphophoneError
from graphophone.features import FeaturePipeline, create_extractor
from graphophone.features.is10 import IS10_COLUMNS
from graphophone.graphs import create_graph
from graphophone.inference import Bundle, Explanation, Recognizer, explain, save_bundle
from graphophone.inference.bundle import Kind
from graphophone.inference.explanations import (
    column_groups,
    edge_contributions,
    frame_contributions,
    log_odds,
    spectrogram_contributions,
)
from graphophone.models import create_model

LABELS = ("neutral", "happy", "angry")
RATE = 16000
Voice = Callable[..., np.ndarray]
Parts = Callable[..., dict]
Write = Callable[..., Path]


class LinearReadout(nn.Module):
    """Log-odds of class 1 are `w . sum over edges of weight * x[source]`, exactly."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = w

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor, batch_size: int, edge_weight: Tensor | None = None
    ) -> Tensor:
        weight = torch.ones(edge_index.shape[1]) if edge_weight is None else edge_weight
        messages = weight * (x @ self.w)[edge_index[0]]
        score = torch.zeros(batch_size).index_add(0, batch[edge_index[1]], messages)
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.fixture
def graph() -> Data:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    return create_graph("cycle_topk", k=3)(Data(x=x))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    model = create_model("glnn", in_channels=6, num_classes=3, widths=(10, 8))
    # A fresh network hardly responds to its input; this one does, with the statistics of a trained one.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(3)
    for norm in model.norms:
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.2, 1.5)
    return model.eval()


def test_log_odds_of_softmax():
    logits = torch.randn(5, 4, dtype=torch.float64)
    p = logits.softmax(dim=1)[:, 2]
    torch.testing.assert_close(log_odds(logits, 2), torch.log(p / (1 - p)))


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_linear_readout_is_attributed_exactly(graph: Data, steps: int):
    w = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, 0.0])
    model = LinearReadout(w)
    listeners = torch.bincount(graph.edge_index[0], minlength=40)[:, None]
    scores, evidence, baseline = frame_contributions(model, graph.x, graph.edge_index, 1, steps=steps)
    torch.testing.assert_close(scores, listeners * graph.x * w)
    assert baseline == 0
    assert evidence == pytest.approx(float(scores.sum()), rel=1e-5)
    edges, full, none = edge_contributions(model, graph.x, graph.edge_index, 1, steps=steps)
    torch.testing.assert_close(edges, (graph.x @ w)[graph.edge_index[0]])
    assert (full, none) == (pytest.approx(evidence), 0)


@pytest.mark.parametrize("target", [0, 1, 2])
def test_contributions_add_up(network: nn.Module, graph: Data, target: int):
    for contributions in (frame_contributions, edge_contributions):
        scores, evidence, baseline = contributions(network, graph.x, graph.edge_index, target, steps=64)
        assert abs(evidence - baseline) > 0.1
        assert float(scores.sum()) == pytest.approx(evidence - baseline, rel=0.02)


def test_more_steps_are_more_exact(network: nn.Module, graph: Data):
    gaps = []
    for steps in (2, 8, 128):
        scores, evidence, baseline = frame_contributions(network, 4 * graph.x, graph.edge_index, 0, steps=steps)
        gaps.append(abs(evidence - baseline - float(scores.sum())))
    assert gaps[2] < gaps[0]
    assert gaps[2] < 0.01 * abs(evidence - baseline)


def test_a_baseline_of_your_own(network: nn.Module, graph: Data):
    scores, _, _ = frame_contributions(network, graph.x, graph.edge_index, 0, baseline=graph.x)
    assert not scores.any()
    baseline = graph.x.clone()
    baseline[7] = 0
    scores, _, _ = frame_contributions(network, graph.x, graph.edge_index, 0, baseline=baseline)
    assert scores.abs().sum(dim=1).nonzero().tolist() == [[7]]


def test_how_many_copies_run_at_once_changes_nothing(network: nn.Module, graph: Data, monkeypatch: pytest.MonkeyPatch):
    import sys

    module = sys.modules["graphophone.inference.explanations"]
    results = []
    for nodes in (1, 130, 10_000):
        monkeypatch.setattr(module, "_NODES_AT_ONCE", nodes)
        results.append(edge_contributions(network, graph.x, graph.edge_index, 0, steps=16)[0])
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=1e-6, rtol=1e-4)


def test_a_trained_network_is_explained_by_what_it_was_trained_on():
    """Class 1 has a burst in one descriptor over five of thirty frames, and nothing else tells the classes apart."""
    rng = np.random.default_rng(0)
    build = create_graph("cycle_topk", k=4)

    def clip(burst: bool, at: int) -> Data:
        x = rng.normal(size=(30, 5)).astype(np.float32)
        if burst:
            x[at : at + 5, 2] += 4
        return build(Data(x=torch.from_numpy(x)))

    clips = [clip(i % 2 == 1, int(rng.integers(0, 25))) for i in range(64)]
    batch = Batch.from_data_list(clips)
    y = torch.arange(64) % 2
    torch.manual_seed(0)
    model = create_model("glnn", in_channels=5, num_classes=2, widths=(12, 12))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch.x, batch.edge_index, batch.batch, 64), y).backward()
        optimizer.step()
    model.eval()
    inside, groups = [], []
    for at in (3, 12, 20):
        data = clip(True, at)
        assert model(data.x, data.edge_index).argmax() == 1
        scores, _, _ = frame_contributions(model, data.x, data.edge_index, 1, steps=32)
        frames = scores.sum(dim=1)
        inside.append(float(frames[at : at + 5].sum() / frames.abs().sum()))
        groups.append(int(scores.sum(dim=0).argmax()))
    assert min(inside) > 0.5  # of all that was attributed; five frames of thirty are 0.17
    assert groups == [2, 2, 2]


@pytest.fixture(scope="module")
def explanation(model_folder: Path, voice: Voice) -> Explanation:
    signal = voice(1.6)
    return explain(Recognizer.from_pretrained(model_folder), audio.Waveform(signal, RATE))


def test_what_an_explanation_says(explanation: Explanation, recognizer: Recognizer, voice: Voice):
    answer = recognizer.process_signal(voice(1.6), RATE).iloc[0]
    assert explanation.label == answer["label"]
    assert explanation.probability == pytest.approx(answer["confidence"], abs=1e-6)
    frames, edges = len(explanation.times), explanation.edge_index.shape[1]
    assert explanation.frame_scores.shape == (frames,)
    assert explanation.edge_scores is not None
    assert explanation.edge_scores.shape == (edges,)
    p = explanation.probability
    assert explanation.evidence == pytest.approx(np.log(p / (1 - p)), abs=1e-3)
    assert abs(explanation.gap) < 0.05 * abs(explanation.evidence - explanation.baseline) + 1e-3
    assert sum(explanation.groups.values()) == pytest.approx(explanation.frame_scores.sum())
    # Frames of 25 ms every 10 ms, four of them in one: the first middle is at 12.5 + 15 ms, up to a frame left over.
    assert explanation.times[0] == pytest.approx(0.0275, abs=0.02)
    np.testing.assert_allclose(np.diff(explanation.times), 0.04)


def test_tables(explanation: Explanation):
    frames = explanation.to_frame()
    assert list(frames.columns) == ["time", "score", "mel bands"]
    np.testing.assert_allclose(frames["mel bands"], frames["score"])
    edges = explanation.edges_to_frame()
    assert len(edges) == explanation.edge_index.shape[1]
    assert edges["score"].abs().is_monotonic_decreasing
    assert explanation.to_dict()["probabilities"].keys() == set(LABELS)


def test_figure(explanation: Explanation, tmp_path: Path):
    for name in ("why.png", "why.svg"):
        assert explanation.save(tmp_path / name, dpi=40).stat().st_size > 5000
    with pytest.raises(GraphophoneError, match=r"why\.docx"):
        explanation.save(tmp_path / "why.docx")
    with pytest.raises(GraphophoneError, match=f"no folder {tmp_path / 'no'}"):
        explanation.save(tmp_path / "no" / "why.png")
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(GraphophoneError, match=f"cannot be written to {tmp_path}"):
        explanation.save(tmp_path / "taken.png")


def test_names_are_not_formulas(explanation: Explanation, tmp_path: Path):
    label = r"$\worse$"
    odd = replace(explanation, file=r"price$\bad$.wav", label=label, labels=(label, "$x_{$", "angry"))
    odd = replace(odd, groups={r"$\frac$": 1.0})
    assert odd.save(tmp_path / "why.png", dpi=40).stat().st_size > 5000
    assert r"price$\bad$.wav" in "".join(text.get_text() for text in odd.plot().texts)


def test_the_figure_marks_what_matters(explanation: Explanation):
    figure = explanation.plot(edges=5)
    arcs, wave, spectrum, score, probabilities, groups, _ = figure.axes
    assert len(arcs.collections[0].get_segments()) == 5
    assert score.get_xlim() == (0.0, 1.6)
    assert len(wave.collections) == 2
    assert spectrum.get_ylim() == (0.0, 8.0)
    assert next(label.get_text() for label in probabilities.get_yticklabels()) == explanation.label
    assert [label.get_text() for label in groups.get_yticklabels()] == ["mel bands"]
    assert explanation.label in figure.get_suptitle()


def test_another_class_a_part_and_bad_requests(
    recognizer: Recognizer, write: Write, explanation: Explanation, voice: Voice
):
    path = write("one.wav", voice(3), subtype="FLOAT")
    other = next(label for label in LABELS if label != explanation.label)
    found = explain(recognizer, path, target=other, start=1.0, end=2.0, steps=4)
    assert found.label == other
    assert found.file == str(path)
    assert 1.0 < found.times[0] < found.times[-1] < 2.0
    assert found.plot().axes[3].get_xlim() == (1.0, 2.0)
    with pytest.raises(GraphophoneError, match="neutral, happy, angry"):
        explain(recognizer, path, target="bored")
    with pytest.raises(audio.AudioError):
        explain(recognizer, path.with_name("gone.wav"))
    for steps in (0, -3):
        with pytest.raises(GraphophoneError, match="steps"):
            explain(recognizer, path, steps=steps)


def test_a_recording_too_long_to_explain_at_once(bundle: Bundle, write: Write, voice: Voice):
    path = write("long.wav", voice(3))
    recognizer = Recognizer(bundle, max_duration=2)
    with pytest.raises(audio.AudioError, match=r"longer than 2 s.*give start and end") as error:
        explain(recognizer, path)
    assert "max_duration" not in str(error.value)
    assert explain(recognizer, path, start=0.5, end=2.0, steps=1).start == 0.5


def test_a_vector_per_recording_has_no_frames_to_explain(bundle: Bundle, voice: Voice):
    vector = FeaturePipeline(create_extractor("egemaps"))
    recognizer = Recognizer(Bundle(**{**vars(bundle), "pipeline": vector}))
    with pytest.raises(GraphophoneError, match="no frames"):
        explain(recognizer, audio.Waveform(voice(1), RATE))


def test_columns_are_grouped_by_kind():
    groups = column_groups((*IS10_COLUMNS, "spontaneous"))
    assert {name: len(members) for name, members in groups.items()} == {
        "loudness": 2,
        "MFCC": 30,
        "mel bands": 16,
        "formants (LSP)": 16,
        "pitch": 4,
        "voicing": 2,
        "voice quality": 6,
        "spontaneous": 1,
    }
    assert sorted(column for members in groups.values() for column in members) == list(range(77))


@pytest.mark.data
def test_a_real_recording(data_root: Path, tmp_path: Path, parts: Parts):
    files = sorted((data_root / "ravdess" / "audio").glob("*-05-02-01-01-08.flac"))
    recognizer = Recognizer.from_pretrained(save_bundle(tmp_path / "model", **parts()))
    found = explain(recognizer, files[0])
    assert abs(found.gap) < 0.05 * abs(found.evidence - found.baseline) + 1e-3
    assert found.save(tmp_path / "why.png").stat().st_size > 50_000


def test_a_model_that_ignores_the_edges_owes_them_nothing(graph: Data):
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(graph.x.shape[1], 3)

        def forward(self, x, edge_index, batch, batch_size, edge_weight=None):
            return self.linear(global_mean_pool(x, batch, batch_size))

    scores, full, none = edge_contributions(Mean(), graph.x, graph.edge_index, 1, steps=4)
    assert (scores == 0).all()
    assert full == none


class LinearSpectrogram(nn.Module):
    """Logit of class 1 is `sum of weight * x`, exactly."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        score = (self.weight * x).sum(dim=(1, 2))
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.mark.parametrize("kind", ["classification", "tagging"])
@pytest.mark.parametrize("rows", [None, 7])
def test_a_linear_spectrogram_is_attributed_exactly(kind: Kind, rows: int | None):
    weight, x = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0))
    scores, evidence, baseline = spectrogram_contributions(
        LinearSpectrogram(weight), x, 1, kind=kind, rows=rows, steps=2
    )
    expected = weight * x
    expected[rows or len(x) :] = 0  # padding owes nothing
    torch.testing.assert_close(scores, expected)
    assert evidence - baseline == pytest.approx(float(expected.sum()), abs=1e-4)


def test_log_odds_of_a_tag():
    logits = torch.randn(5, 4, dtype=torch.float64)
    p = logits.sigmoid()[:, 2]
    torch.testing.assert_close(log_odds(logits, 2, "tagging"), torch.log(p / (1 - p)))


@pytest.fixture
def tag_explanation(tagger: Recognizer, voice: Voice) -> Explanation:
    return explain(tagger, audio.Waveform(voice(0.5), RATE), steps=8)


def test_an_explanation_of_a_tag(tag_explanation: Explanation, tagger: Recognizer, voice: Voice):
    found = tag_explanation
    answer = tagger.process_signal(voice(0.5), RATE).iloc[0]
    assert (found.label, found.probability) == (answer["label"], pytest.approx(answer["confidence"], abs=1e-6))
    p = found.probability
    assert found.evidence == pytest.approx(np.log(p / (1 - p)), abs=1e-3)
    # Half a second is 48 windows of 25 ms; the other 12 rows of the clip are padding.
    assert found.feature_scores.shape == found.spectrogram.shape == (48, 16)
    assert found.times[0] == pytest.approx(0.0125, abs=0.006)
    assert found.edge_scores is None
    assert found.edge_index.shape == (2, 0)
    assert found.evidence - found.baseline - found.gap == pytest.approx(found.frame_scores.sum())
    assert list(found.groups) == [
        "below 250 Hz",
        "250 Hz to 500 Hz",
        "500 Hz to 1 kHz",
        "1 kHz to 2 kHz",
        "2 kHz to 4 kHz",
        "4 kHz to 8 kHz",
    ]
    assert sum(found.groups.values()) == pytest.approx(found.frame_scores.sum())
    assert list(found.to_frame().columns) == ["time", "score", *found.groups]
    assert found.to_dict()["edges"] is None
    with pytest.raises(GraphophoneError, match="edge scores"):
        found.edges_to_frame()


def test_the_figure_of_a_spectrogram(tag_explanation: Explanation, tmp_path: Path):
    figure = tag_explanation.plot()
    wave, level, evidence, score, probabilities, groups, _ = figure.axes
    assert score.get_xlim() == (0.0, 0.5)
    assert [len(axes.images) for axes in (wave, level, evidence, score)] == [0, 1, 1, 0]
    assert evidence.images[0].get_array().shape == (16, 48)
    assert [label.get_text() for label in level.get_yticklabels()] == ["0.25", "1", "2", "4"]
    assert next(label.get_text() for label in probabilities.get_yticklabels()) == tag_explanation.label
    assert groups.get_title(loc="left") == "evidence by frequency"
    for name in ("why.png", "why.svg"):
        assert tag_explanation.save(tmp_path / name, dpi=40).stat().st_size > 5000


def test_only_what_the_model_hears_is_explained(tagger: Recognizer, voice: Voice):
    found = explain(tagger, audio.Waveform(voice(2.0), RATE), target="siren", steps=2)
    assert found.label == "siren"
    assert len(found.times) == 60
    # The frames of the whole clip are centred on it; these are the first of them.
    assert found.times[0] == pytest.approx(0.0125, abs=0.006)
    assert found.times[-1] == pytest.approx(0.6025, abs=0.006)
    assert found.plot().axes[3].get_xlim() == (0.0, 2.0)


def test_a_trained_network_of_clips_is_explained_by_what_it_was_trained_on(clip_parts: Parts):
    # A tone in one of two bands, at a random time, decides between two tags.
    given = clip_parts()
    torch.manual_seed(0)
    network = given["model"].train()
    network.reset_classifier(2)

    def clips(count: int) -> tuple[Tensor, Tensor, Tensor]:
        x, y = 0.3 * torch.randn(count, 60, 16), torch.randint(2, (count,))
        at = torch.randint(0, 48, (count,))
        for clip, label, begin in zip(x, y, at, strict=True):
            clip[begin : begin + 12, 4 + 8 * label : 6 + 8 * label] += 3
        return x, y, at

    optimizer = torch.optim.Adam(network.parameters(), lr=0.005)
    for _ in range(60):
        x, y, _ = clips(16)
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(x), nn.functional.one_hot(y, 2).float()).backward()
        optimizer.step()
    network.eval()
    x, y, at = clips(8)
    assert (network(x).argmax(dim=1) == y).all()
    inside = []
    for clip, label, begin in zip(x, y, at, strict=True):
        scores, _, _ = spectrogram_contributions(network, clip, int(label), kind="tagging", steps=8)
        size = scores.abs()
        inside.append(float(size[begin : begin + 12, 4 + 8 * label : 6 + 8 * label].sum() / size.sum()))
    assert np.mean(inside) > 0.25  # of all that was attributed; the tone covers 0.025 of the picture
