"""Trainings of networks that read spectrograms, from recordings to run folders."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from lightning import Trainer
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score

from graphophone import cli, jobs, runs
from graphophone.errors import GraphophoneError
from graphophone.features import FeaturePipeline
from graphophone.graphs.signed import Signed
from graphophone.inference import Recognizer
from graphophone.models import MODELS, SpectrogramClassifier
from graphophone.models.subgraph_ssl import SubgraphSSL
from graphophone.recipes import RecipeError, load_recipe
from graphophone.tasks.base import TrainingDivergedError
from graphophone.tasks.nodes import Nodes
from graphophone.tasks.subgraphs import SubgraphClassification

SMALL = {"channels": [8, 16], "blocks": [1, 1], "reduction": [2, 1], "k": 3, "P": 4, "K": 2, "head_width": 16}


def quietly(recipe, output, **options):
    return runs.train(recipe, output=output, progress=False, **options)


def weights(run):
    return load_file(run.model / "model.safetensors")


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.fixture
def clip_recipe(tones):
    """A recipe whose network learns the tones from their spectrograms in a few seconds."""
    return {
        "name": "clips",
        "corpus": {"name": "folder", "root": str(tones), "speaker": r"([a-d])_\d"},
        "features": {"name": "fbank", "num_mel_bins": 16, "frames": 32},
        "model": {"name": "lhgnn", **SMALL},
        "augment": {"mixup_probability": 0.5, "mixup_domain": "power", "time_shift": 0.5, "gain": 1.0, "time_masks": 1},
        "task": {"name": "clip_classification", "learning_rate": 0.01, "warmup": 0.2},
        "training": {"epochs": 8, "batch_size": 8, "patience": 0, "threads": 1, "device": "cpu"},
        "protocol": {"name": "speaker-independent", "groups": 4},
        "seeds": [0],
    }


@pytest.fixture(scope="session")
def tagged(tmp_path_factory):
    """A table of clips with tags: ``low`` and ``high`` tones, ``noise``, and what is in several of them."""
    root = tmp_path_factory.mktemp("tagged")
    rng = np.random.default_rng(1)
    time = np.arange(8000) / 16000
    rows = []
    for number in range(36):
        tags = [tag for tag, chance in (("low", 0.5), ("high", 0.5), ("noise", 0.5)) if rng.random() < chance]
        tags = tags or ["low"]
        signal = 0.01 * rng.standard_normal(8000)
        for tag, frequency in (("low", 400), ("high", 3000)):
            if tag in tags:
                signal += 0.2 * np.sin(2 * np.pi * frequency * rng.uniform(0.9, 1.1) * time)
        if "noise" in tags:
            signal += 0.2 * rng.standard_normal(8000)
        soundfile.write(root / f"{number:02d}.wav", signal, 16000)
        split = "train" if number < 20 else "validation" if number < 28 else "test"
        rows.append({"audio": f"{number:02d}.wav", "labels": ";".join(tags), "split": split})
    pd.DataFrame(rows).to_csv(root / "table.csv", index=False)
    return root / "table.csv"


@pytest.fixture
def tag_recipe(clip_recipe, tagged):
    return {
        **clip_recipe,
        "name": "tags",
        "corpus": {"name": "table", "root": str(tagged)},
        "features": {"name": "fbank", "num_mel_bins": 16, "frames": 48},
        "task": {"name": "clip_tagging", "learning_rate": 0.01, "warmup": 0.2},
        "protocol": {"name": "official"},
    }


def test_one_label_per_clip(clip_recipe, tones, tmp_path):
    run = quietly(clip_recipe, tmp_path, folds=[0, 1])
    assert run.metrics["ua"]["mean"] > 0.9
    described = json.loads((run.folder / "run.json").read_text("utf-8"))
    assert described["kind"] == "classification"
    assert described["graph"] == {"name": "none"}
    assert described["features"]["frames"] == 32
    recipe = yaml.safe_load((run.folder / "recipe.yaml").read_text("utf-8"))
    assert recipe["augment"]["name"] == "spectrogram"
    assert recipe["standardize"]["per"] == "corpus"
    folder = run.folder / "folds" / f"{run.metrics['folds'][0]['fold']}-seed0"
    curves = pd.read_csv(folder / "curves.csv")
    assert {"train_loss", "train_ua", "validation_loss", "validation_ua", "validation_wa"} <= set(curves)
    assert curves["centroid_spread_1"].gt(0).all()
    standardizer = load_file(folder / "model" / "standardizer.safetensors")
    assert standardizer["mean"].unique().numel() == 1
    best = max(run.metrics["folds"], key=lambda fold: fold["validation"]["ua"])
    told = pd.read_csv(run.folder / "folds" / f"{best['fold']}-seed0" / "predictions.csv")
    answers = Recognizer.from_pretrained(run.model).process_files([tones / item for item in told["id"]])
    np.testing.assert_allclose(answers["p_low"], told["p_low"], atol=1e-4)


def test_tags(tag_recipe, tmp_path):
    tag_recipe["training"] |= {"balanced": True, "epochs": 16}
    tag_recipe["augment"] = {"time_shift": 0.5}
    run = quietly(tag_recipe, tmp_path)
    assert run.metrics["map"]["mean"] > 0.85
    assert run.metrics["kind"] == json.loads((run.folder / "run.json").read_text("utf-8"))["kind"] == "tagging"
    told = pd.read_csv(run.folder / "predictions.csv", keep_default_na=False)
    assert len(told) == 8
    assert list(told)[:5] == ["id", "labels", "predicted", "fold", "seed"]
    for _, row in told.iterrows():
        given = [tag for tag in ("high", "low", "noise") if row[f"p_{tag}"] >= 0.5]
        assert row["predicted"].split(";") == (given or [""])
    truth = np.array([[tag in labels.split(";") for tag in ("high", "low", "noise")] for labels in told["labels"]])
    expected = average_precision_score(truth, told[["p_high", "p_low", "p_noise"]])
    assert run.metrics["map"]["mean"] == pytest.approx(expected)
    folder = run.folder / "folds" / "official-seed0"
    curves = pd.read_csv(folder / "curves.csv")
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert metrics["best_epoch"] == curves["validation_map"].idxmax()
    assert metrics["validation"]["map"] == pytest.approx(curves["validation_map"].max(), abs=1e-6)
    assert run.metrics["validation_map"]["mean"] == pytest.approx(metrics["validation"]["map"])
    described = json.loads((run.model / "pipeline.json").read_text("utf-8"))
    assert described["kind"] == "tagging"
    assert "best validation mAP" in (run.model / "README.md").read_text("utf-8")


def test_without_validation_items_nothing_is_chosen(clip_recipe, tones, tmp_path):
    files = sorted(tones.glob("*/*.wav"))
    table = pd.DataFrame({"audio": [str(f) for f in files], "label": [f.parent.name for f in files]})
    table["fold"] = [int(f.stem[-1]) for f in files]
    table.to_csv(tmp_path / "table.csv", index=False)
    clip_recipe["corpus"] = {"name": "table", "root": str(tmp_path / "table.csv")}
    clip_recipe["protocol"] = {"name": "folds", "validation": "none"}
    clip_recipe["training"]["epochs"] = 2
    with pytest.raises(runs.RunError, match=r"no validation items.*training\.selection to last"):
        quietly(clip_recipe, tmp_path)
    with pytest.raises(RecipeError, match=r"features\.name must give frames"):
        quietly({**clip_recipe, "features": {"name": "egemaps"}}, tmp_path)
    assert not (tmp_path / "clips").exists()
    clip_recipe["training"]["selection"] = "last"
    with pytest.raises(runs.RunError, match=r"training\.patience to 0"):
        quietly({**clip_recipe, "training": {**clip_recipe["training"], "patience": 3}}, tmp_path)
    run = quietly(clip_recipe, tmp_path, folds=[0, 1])
    fold = run.folder / "folds" / "fold0-seed0"
    metrics = json.loads((fold / "metrics.json").read_text("utf-8"))
    assert metrics["validation"] is None
    assert metrics["items"] == {"train": 24, "unlabelled": 0, "validation": 0, "test": 8}
    assert metrics["best_epoch"] == 1
    assert not (fold / "validation.csv").exists()
    assert not (fold / "checkpoints" / "best.ckpt").exists()
    assert pd.read_csv(fold / "curves.csv")["validation_ua"].isna().all()
    assert run.metrics["validation_ua"] is None
    card = (run.model / "README.md").read_text("utf-8")
    assert "Weights: fold0, seed 0" in card
    assert "none was chosen over the others" in card
    assert (run.model / "model.safetensors").read_bytes() == (fold / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "settings",
    [
        {"averaging": "epochs", "average_first": 2, "average_last": 4, "refresh_batch_norm": True, "selection": "last"},
        {"averaging": "ema", "ema_decay": 0.9, "refresh_batch_norm": True, "balanced": True},
    ],
    ids=["epochs", "ema"],
)
def test_an_interrupted_training_ends_as_an_undisturbed_one(clip_recipe, tmp_path, monkeypatch, settings):
    clip_recipe["training"] |= {"epochs": 5, **settings}
    undisturbed = quietly(clip_recipe, tmp_path / "one", folds=[0])

    class PowerError(RuntimeError):
        pass

    step = jobs.EpochKeeper.on_train_epoch_start

    def fail(self, trainer, module):
        step(self, trainer, module)
        if trainer.current_epoch == 3:
            raise PowerError

    with monkeypatch.context() as patch:
        patch.setattr(jobs.EpochKeeper, "on_train_epoch_start", fail)
        with pytest.raises(PowerError):
            quietly(clip_recipe, tmp_path / "two", folds=[0])
    resumed = quietly(clip_recipe, tmp_path / "two", folds=[0])
    assert_same_weights(undisturbed, resumed)
    told = [pd.read_csv(run.folder / "predictions.csv") for run in (undisturbed, resumed)]
    pd.testing.assert_frame_equal(*told)


def test_the_kept_weights_are_the_mean_of_the_epochs(clip_recipe, tmp_path, monkeypatch):
    seen = []

    def remember(self, trainer, module):
        seen.append({name: value.clone() for name, value in module.model.state_dict().items()})

    monkeypatch.setattr(jobs.EpochKeeper, "on_train_epoch_start", remember)
    clip_recipe["training"] |= {"epochs": 4, "averaging": "epochs", "average_first": 2, "selection": "last"}
    run = quietly(clip_recipe, tmp_path, folds=[0])
    checkpoint = torch.load(next(run.folder.glob("folds/*/checkpoints/last.ckpt")), weights_only=True)
    last = {k.removeprefix("model."): v for k, v in checkpoint["state_dict"].items() if k.startswith("model.")}
    ends = [*seen[2:], last]  # the weights that an epoch starts with are those that the one before ended with
    kept = weights(run)
    assert kept.keys() == last.keys()
    for name, value in kept.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, torch.stack([state[name] for state in ends]).mean(0))
        else:
            assert torch.equal(value, last[name])


def test_baselines_on_the_same_data(clip_recipe, tmp_path):
    clip_recipe["training"]["epochs"] = 1
    options = {
        "vig": ["--model.channels=[8,16]", "--model.blocks=[1,1]", "--model.reduction=[2,1]", "--model.k=3"],
        "ast": ["--model.hidden_size=16", "--model.num_layers=1", "--model.num_heads=2"],
        "cnn14": ["--model.widths=[4,8,8]"],
    }
    for name, words in options.items():
        recipe = load_recipe(clip_recipe, [f"--model.name={name}", *words, f"--name={name}"])
        assert 0 <= quietly(recipe, tmp_path, folds=[0]).metrics["ua"]["mean"] <= 1


def test_features_that_a_network_cannot_read_are_refused_with_what_was_measured(clip_recipe, tmp_path):
    clip_recipe["features"]["frames"] = 0
    with pytest.raises(RecipeError, match=r"features\.frames is 0.*'lhgnn'.*such as to 4\d, the longest"):
        quietly(clip_recipe, tmp_path)
    clip_recipe["features"] |= {"frames": 32, "relative": True}
    with pytest.raises(RecipeError, match=r"features\.relative"):
        quietly(clip_recipe, tmp_path)
    assert not (tmp_path / "clips").exists()


@pytest.fixture
def no_work(monkeypatch):
    """Whoever computes a feature fails the test."""

    def extract(*_, **__):
        pytest.fail("features were extracted")

    monkeypatch.setattr(FeaturePipeline, "extract", extract)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.K=60"], "K=60 of P=4"),
        (["--model.P=0", "--model.K=0"], "K=0 of P=0"),
        (["--model.channels=[2,16]"], "multiple of 4"),
        (["--model.dropout=2"], "dropout=2.0: give a probability"),
        (["--model.name=ast", "--model.patch_size=-1"], "'ast' cannot be made with these options"),
        (["--features.relative=true"], r"features\.relative"),
        (["--features.metadata=[spontaneous]"], r"features\.metadata"),
        (["--training.batch_size=1"], r"training\.batch_size is 1, but 'lhgnn'"),
        (["--training.pretrained=none.safetensors"], "there is no such file"),
        (["--task.learning_rate=0"], r"task\.learning_rate"),
        (["--protocol.groups=1"], "groups"),
        (["--model.name=vig", "--model.k=0"], "k=0"),
        (["--model.name=ast", "--model.hidden_size=10", "--model.num_heads=3"], "divisible"),
        (["--model.name=ast", "--features.frames=8"], "hold no patch"),
        (["--model.name=cnn14", "--model.widths=[4,4,4,4,4,4]"], "at least 32"),
        (["--model.name=cnn14", "--model.dropout=0.1", "--model.widths=[]"], "widths is empty"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_any_work(clip_recipe, tmp_path, no_work, words, message):
    with pytest.raises(GraphophoneError, match=message):
        quietly(load_recipe(clip_recipe, words), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_same_for_networks_of_graphs(tone_recipe, tmp_path, no_work):
    for words, message in ((["--model.widths=[]"], "widths"), (["--graph.k=0"], "k")):
        with pytest.raises(GraphophoneError, match=message):
            quietly(load_recipe(tone_recipe, words), tmp_path)


class Looking(SpectrogramClassifier):
    """A network whose making reads a number, which weights without memory do not have."""

    model_name = "looking"

    def __init__(self, *, num_classes: int, num_mel_bins: int, frames: int, least: float = 0.0) -> None:
        super().__init__()
        if not float(torch.ones(()).item()) > least:
            raise ValueError("least is too large")


def test_networks_that_cannot_be_made_without_memory_are_made(clip_recipe, tmp_path, monkeypatch, no_work):
    monkeypatch.setitem(MODELS._entries, "looking", Looking)
    with pytest.raises(runs.RunError, match=r"'looking' cannot be made with these options \(least is too large\)"):
        quietly(load_recipe(clip_recipe, ["--model.name=looking", "--model.least=2"]), tmp_path)
    with pytest.raises(pytest.fail.Exception, match="extracted"):  # it could be made
        quietly(load_recipe(clip_recipe, ["--model.name=looking"]), tmp_path)


def test_augmentations_of_logarithms_are_refused_for_decibels(clip_recipe, tmp_path):
    """The floor of natural logarithms, -15.9, is loud among decibels."""
    clip_recipe["features"] = {"name": "panns_logmel", "frames": 32, "pad_value": -100.0}
    for change in ({"gain": 1.0}, {"mixup_probability": 0.5, "mixup_domain": "power"}):
        with pytest.raises(RecipeError, match=r"augment\.gain and augment\.mixup_domain.*'panns_logmel' does not"):
            quietly({**clip_recipe, "augment": change}, tmp_path / "run")


def test_tasks_and_corpora_that_do_not_fit(clip_recipe, tag_recipe, tmp_path):
    with pytest.raises(runs.RunError, match=r"one label per item.*task\.name to clip_classification"):
        quietly({**clip_recipe, "task": "clip_tagging"}, tmp_path)
    with pytest.raises(runs.RunError, match=r"several labels per item.*task\.name to clip_tagging"):
        quietly({**tag_recipe, "task": "clip_classification"}, tmp_path)
    graph = {
        **tag_recipe,
        "features": {"name": "fbank"},
        "graph": "cycle",
        "model": "glnn",
        "augment": {},
        "task": "graph_classification",
    }
    with pytest.raises(runs.RunError, match=r"several labels per item.*choose a model that reads spectrograms"):
        quietly(graph, tmp_path)


def test_a_run_of_an_older_version_goes_on(clip_recipe, tmp_path):
    """Options that have come since are absent from its recipe, and count as their defaults."""
    clip_recipe["training"]["epochs"] = 1
    run = quietly(clip_recipe, tmp_path, folds=[0])
    path = run.folder / "recipe.yaml"
    old = yaml.safe_load(path.read_text("utf-8"))
    del old["standardize"], old["training"]["refresh_batch_norm"], old["task"]["milestones"], old["augment"]["name"]
    path.write_text(yaml.safe_dump(old), "utf-8")
    again = quietly(clip_recipe, tmp_path, folds=[0, 1])
    assert len(again.metrics["folds"]) == 2
    clip_recipe["standardize"] = {"per": "column"}
    with pytest.raises(runs.RunError, match=r"standardize\.per is corpus there and column here"):
        quietly(clip_recipe, tmp_path, folds=[0])


def test_published_constants_are_used(clip_recipe, tmp_path):
    clip_recipe["standardize"] = {"mean": -4.5, "std": 4.0, "clip": float("inf")}
    clip_recipe["training"]["epochs"] = 1
    run = quietly(clip_recipe, tmp_path, folds=[0])
    held = load_file(run.model / "standardizer.safetensors")
    assert held["mean"].tolist() == [-4.5] * 16
    assert held["std"].tolist() == [4.0] * 16
    assert held["clip"].item() == float("inf")


def test_weights_to_start_from(clip_recipe, tmp_path):
    clip_recipe["training"]["epochs"] = 1
    clip_recipe["task"]["learning_rate"] = 1e-12  # it keeps what it starts with
    first = quietly(clip_recipe, tmp_path / "first", folds=[0])
    clip_recipe["training"]["pretrained"] = str(first.model)
    second = quietly({**clip_recipe, "seeds": [1]}, tmp_path / "second", folds=[0])
    one, other = weights(first), weights(second)
    for name in one:
        if name.endswith(("weight", "bias")) and "prediction" not in name:
            torch.testing.assert_close(one[name], other[name])
    described = json.loads((second.folder / "run.json").read_text("utf-8"))
    assert "stem.convs.0.weight" in described["model"]["pretrained"]["loaded"]


def test_a_diverged_training_says_what_to_do(clip_recipe, tmp_path):
    clip_recipe["task"] |= {"learning_rate": 1e30, "schedule": "constant", "warmup": 0.0}
    with pytest.raises(TrainingDivergedError, match=r"task\.learning_rate"):
        quietly(clip_recipe, tmp_path, folds=[0])


def test_half_precision(clip_recipe, tmp_path):
    clip_recipe["training"] |= {"epochs": 1, "precision": "bf16-mixed", "refresh_batch_norm": True}
    assert 0 <= quietly(clip_recipe, tmp_path, folds=[0]).metrics["ua"]["mean"] <= 1


def test_a_sweep_over_the_kernel(tag_recipe, tmp_path, capsys):
    tag_recipe["training"] |= {"epochs": 1, "selection": "last"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tag_recipe), "utf-8")
    words = ["sweep", str(tmp_path / "recipe.yaml"), "--vary", "model.kernel=local,higher", "--output", str(tmp_path)]
    assert cli.main([*words, "--quiet", "--protocol.validation=0"]) == cli.OK
    assert (tmp_path / "tags-model.kernel.html").is_file()
    shown = capsys.readouterr().out
    for kernel in ("local", "higher"):
        assert kernel in shown
        made = json.loads((tmp_path / f"tags-kernel-{kernel}" / "run.json").read_text("utf-8"))
        assert made["model"]["options"]["kernel"] == kernel
        metrics = json.loads((tmp_path / f"tags-kernel-{kernel}" / "metrics.json").read_text("utf-8"))
        assert metrics["validation_map"] is None


def test_statistics_of_subgraphs_are_those_of_an_undisturbed_training_after_a_resumption():
    """Which subgraphs are drawn follows from the epoch, and a process that finds the training done has seen none."""
    rows, recipe = torch.arange(24), load_recipe("ssl-ravdess", ["--training.epochs", "2"])
    x = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
    y = torch.where(rows < 8, rows % 2, -1)
    nodes = Nodes(x, y, rows[:8], rows[8:], rows[:0], [str(row) for row in rows.tolist()], Signed())

    def prepared():
        torch.manual_seed(0)
        model = SubgraphSSL(in_channels=4, num_classes=2, hidden_channels=4, backbone="gin")
        task = SubgraphClassification(model, 2, per_class=2, unlabelled=4)
        task.use(nodes)
        return task

    def statistics(task):
        jobs.refresh(recipe, task, task.train_dataloader(), jobs._trainer_of_one(recipe, progress=False), 0)
        assert task.current_epoch == 2
        return {name: value for name, value in task.model.state_dict().items() if "running" in name}

    with jobs.quiet_trainer():
        trained = prepared()
        trainer = Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.fit(trained, trained.train_dataloader())
        resumed = prepared()
        resumed.load_state_dict(trained.state_dict())
        one, other = statistics(trained), statistics(resumed)
    assert one
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize(("power", "ratio"), [(True, 4.0), (1.0, 4.0), (0.5, 2.0)])
def test_class_weights_are_a_power_of_the_inverse_frequency_with_a_mean_of_one(power, ratio):
    recipe = SimpleNamespace(training=SimpleNamespace(class_weights=power))
    corpus = SimpleNamespace(targets=np.array([0, 0, 1, 0, 0, 1]), classes=("a", "b"))
    rows = np.arange(5)  # four of a, one of b
    found = jobs.class_weights(recipe, corpus, rows)
    assert found[1] / found[0] == pytest.approx(ratio)
    assert np.take(found, corpus.targets[rows]).mean() == pytest.approx(1)
    recipe.training.class_weights = False
    assert jobs.class_weights(recipe, corpus, rows) is None
