"""Every registered model: forward, gradients, batches, saving and loading."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from graphophone.errors import GraphophoneError, UnknownNameError
from graphophone.models import MODELS, ModelError, create_model, list_models, load_model

SIZES = [9, 1, 14, 5]
CHANNELS, CLASSES = 6, 3
GRAPH_MODELS = [name for name in list_models() if MODELS.get(name).reads == "graph"]  # type: ignore[attr-defined]


def inputs(sizes: list[int] = SIZES, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, int]:
    """Features, edges (a cycle and three more per node, none twice), graph of every node, number of graphs."""
    generator = torch.Generator().manual_seed(seed)
    edges, start = [], 0
    for size in sizes:
        adjacent = torch.zeros(size, size, dtype=torch.bool)
        adjacent[torch.arange(size), (torch.arange(size) + 1) % size] = True
        adjacent |= torch.rand(size, size, generator=generator) < 3 / size
        adjacent.fill_diagonal_(False)
        edges.append(adjacent.t().nonzero().flip(1).t() + start)  # sorted by target
        start += size
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return torch.randn(start, CHANNELS, generator=generator), torch.cat(edges, 1), batch, len(sizes)


def create(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, in_channels=CHANNELS, num_classes=CLASSES, **options)


@pytest.mark.parametrize("name", GRAPH_MODELS)
class TestEveryModel:
    def test_forward(self, name: str) -> None:
        model = create(name).eval()
        logits = model(*inputs())
        assert logits.shape == (len(SIZES), CLASSES)
        assert logits.isfinite().all()
        embedding = model.embed(*inputs())
        torch.testing.assert_close(model.classifier(embedding), logits)

    def test_every_parameter_gets_a_gradient(self, name: str) -> None:
        model = create(name).train()
        nn.functional.cross_entropy(model(*inputs()), torch.tensor([0, 1, 2, 0])).backward()
        without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not without
        moved = sum(bool((p.grad != 0).any()) for p in model.parameters())
        assert moved >= 0.9 * len(list(model.parameters()))

    def test_batch_equals_single(self, name: str) -> None:
        model = create(name).eval()
        x, edge_index, batch, _ = inputs()
        together = model(*inputs())
        for graph in range(len(SIZES)):
            at = (batch == graph).nonzero().squeeze(1)
            mine = batch[edge_index[1]] == graph
            alone = model(x[at], edge_index[:, mine] - at[0])
            torch.testing.assert_close(alone[0], together[graph], atol=1e-5, rtol=1e-4)

    def test_evaluation_is_deterministic(self, name: str) -> None:
        model = create(name).eval()
        torch.testing.assert_close(model(*inputs()), model(*inputs()), atol=0, rtol=0)

    def test_learns(self, name: str) -> None:
        """Every model can tell apart a few graphs that it has seen."""
        model = create(name).train()
        labels = torch.tensor([0, 1, 2, 0])
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        losses = []
        for _ in range(40):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(*inputs()), labels)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert min(losses[-5:]) < 0.5 * losses[0]

    def test_edge_weights_have_gradients(self, name: str) -> None:
        model = create(name).eval()
        x, edge_index, batch, batch_size = inputs()
        weight = torch.ones(edge_index.size(1), requires_grad=True)
        if not model.reads_edges:
            with pytest.raises(ModelError, match="reads no edges"):
                model(x, edge_index, batch, batch_size, edge_weight=weight)
            no_edges = edge_index[:, :0]
            torch.testing.assert_close(model(x, no_edges, batch, batch_size), model(*inputs()))
            return
        weighted = model(x, edge_index, batch, batch_size, edge_weight=weight)
        torch.testing.assert_close(weighted, model(x, edge_index, batch, batch_size), atol=1e-5, rtol=1e-4)
        gradient = torch.autograd.grad(weighted.square().sum(), weight)[0]
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0

    def test_save_and_load(self, name: str, tmp_path: Path) -> None:
        model = create(name)
        model.train()
        model(*inputs())  # moves running statistics
        model.eval()
        model.save_pretrained(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
        config = json.loads((tmp_path / "config.json").read_text())
        assert config["model_name"] == name
        assert config["in_channels"] == CHANNELS
        for loaded in (load_model(tmp_path), type(model).from_pretrained(str(tmp_path))):
            assert type(loaded) is type(model)
            assert not loaded.training
            assert loaded.config == model.config
            torch.testing.assert_close(loaded(*inputs()), model(*inputs()), atol=0, rtol=0)

    def test_reset_classifier(self, name: str, tmp_path: Path) -> None:
        model = create(name).eval()
        before = model.embed(*inputs())
        model.reset_classifier(7)
        assert model(*inputs()).shape == (len(SIZES), 7)
        torch.testing.assert_close(model.embed(*inputs()), before)
        model.save_pretrained(tmp_path)
        assert load_model(tmp_path)(*inputs()).shape == (len(SIZES), 7)

    def test_printing(self, name: str) -> None:
        assert type(create(name)).__name__ in str(create(name))


def test_names() -> None:
    assert list_models("gl*") == ["glnn"]
    assert GRAPH_MODELS == ["cogcn", "compact_ser", "ga_gru", "glnn", "lstm_gin"]
    with pytest.raises(UnknownNameError, match="Did you mean 'glnn'"):
        create_model("gln", in_channels=2, num_classes=2)
    with pytest.raises(UnknownNameError, match="Did you mean 'dropout'"):
        create_model("glnn", in_channels=2, num_classes=2, dropuot=0.1)


class TestBadFolders:
    """One line that names the file, for everything that a folder can lack."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        create("glnn").save_pretrained(tmp_path)
        return tmp_path

    def refused(self, folder: Path, match: str) -> None:
        with pytest.raises(GraphophoneError, match=match) as caught:
            load_model(folder)
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)

    def test_missing(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "none", "does not exist")

    def test_a_file(self, folder: Path) -> None:
        self.refused(folder / "config.json", "is a file")

    def test_no_config(self, folder: Path) -> None:
        (folder / "config.json").unlink()
        self.refused(folder, r"holds no config\.json")

    @pytest.mark.parametrize("content", ["{", "[1]", "\x80", ""])
    def test_damaged_config(self, folder: Path, content: str) -> None:
        (folder / "config.json").write_bytes(content.encode("latin-1"))
        self.refused(folder, "damaged|no JSON object")

    def test_no_name(self, folder: Path) -> None:
        (folder / "config.json").write_text('{"in_channels": 6}')
        self.refused(folder, "model_name")

    def test_unknown_name(self, folder: Path) -> None:
        (folder / "config.json").write_text('{"model_name": "gnl"}')
        self.refused(folder, "unknown model 'gnl'")

    @pytest.mark.parametrize(
        "change",
        [{"widht": 3}, {"in_channels": None}, {"in_channels": -1}, {"widths": 5}, {"pooling": "maen"}, {"norm": "b"}],
    )
    def test_config_that_does_not_fit(self, folder: Path, change: dict[str, object]) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        self.refused(folder, "does not fit")

    def test_no_weights(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        self.refused(folder, "holds no model.safetensors")

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
    def test_pickled_weights_are_never_read(self, folder: Path, name: str) -> None:
        (folder / "model.safetensors").unlink()
        torch.save(create("glnn").state_dict(), folder / name)
        self.refused(folder, f"only pickled weights \\({name}\\)")

    @pytest.mark.parametrize("keep", [0, 5, 200, 10000])
    def test_truncated_weights(self, folder: Path, keep: int) -> None:
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:keep])
        self.refused(folder, r"model\.safetensors: damaged")

    def test_weights_of_another_shape(self, folder: Path) -> None:
        create("glnn", widths=[8]).save_pretrained(folder / "other")
        (folder / "model.safetensors").write_bytes((folder / "other" / "model.safetensors").read_bytes())
        self.refused(folder, "weights of another model")

    def test_too_few_weights(self, folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights.pop("classifier.4.bias")
        save_file(weights, folder / "model.safetensors")
        self.refused(folder, r"classifier\.4\.bias")

    def test_not_a_hub_name_either(self) -> None:
        for name in ("nosuchfolder", "./no/such", "a/b/c"):
            with pytest.raises(ModelError, match="does not exist"):
                load_model(name)

    def test_hub_without_a_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ModelError, match="neither a folder here nor on the hub"):
            load_model("graphophone/nosuchmodel", local_files_only=True)

    def test_class_of_another_model(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_name": "other"}))
        model_class = type(create("glnn"))
        with pytest.raises(ModelError, match="use load_model"):
            model_class.from_pretrained(folder)


def test_saving_over_an_old_model_replaces_it(tmp_path: Path) -> None:
    create("glnn", widths=[8]).save_pretrained(tmp_path)
    create("glnn", widths=[16]).save_pretrained(tmp_path)
    assert load_model(tmp_path).config["widths"] == [16]
    assert not list(tmp_path.glob(".*"))


def test_options_replace_saved_ones(tmp_path: Path) -> None:
    create("glnn").save_pretrained(tmp_path)
    assert load_model(tmp_path, dropout=0.25).dropout.p == 0.25


@pytest.mark.parametrize("device", ["foo", "cuda:99", "meta"])
def test_a_device_that_is_not_there(tmp_path: Path, device: str) -> None:
    create("glnn").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"device '{device}': not found here; use cpu") as caught:
        load_model(tmp_path, map_location=device)
    assert "\n" not in str(caught.value)
