import pytest
import yaml

from graphophone.errors import GraphophoneError, UnknownNameError
from graphophone.recipes import Recipe, RecipeError, corpus_options, list_recipes, load_recipe

SMALL = {
    "name": "mine",
    "corpus": {"name": "folder", "root": "somewhere"},
    "features": {"name": "fbank", "decimate": 2},
    "graph": {"name": "cycle_topk", "k": 5},
    "model": {"name": "glnn", "pooling": "mean"},
    "task": {"name": "graph_classification"},
    "protocol": {"name": "stratified"},
}


def changed(**sections):
    return {**SMALL, **sections}


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_every_shipped_recipe_is_complete_and_reads_back_the_same(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    path = tmp_path / "again.yaml"
    path.write_text(recipe.to_yaml(), "utf-8")
    assert load_recipe(path) == recipe


def test_defaults_are_written_out():
    recipe = load_recipe(SMALL)
    assert isinstance(recipe, Recipe)
    assert recipe.graph["include_self"] is False
    assert recipe.model["num_layers"] == 3
    assert recipe.training.patience == 30
    assert recipe.task["learning_rate"] == 1e-5
    assert recipe.seeds == [0]
    assert set(yaml.safe_load(recipe.to_yaml())) == {
        *("name", "description", "corpus", "features", "graph", "model"),
        *("augment", "standardize", "task", "training", "protocol", "seeds"),
    }


def test_dotted_overrides_are_typed():
    recipe = load_recipe(SMALL, ["--graph.k", "15", "--augment.noise=0.1", "--seeds", "[3, 4]", "--name", "other"])
    assert recipe.graph["k"] == 15
    assert recipe.augment.noise == 0.1
    assert recipe.seeds == [3, 4]
    assert recipe.name == "other"


def test_another_part_in_a_slot_brings_its_own_options():
    recipe = load_recipe(SMALL, ["--graph.name", "temporal_window", "--graph.radius", "3"])
    assert recipe.graph["name"] == "temporal_window"
    assert recipe.graph["radius"] == 3
    assert "k" not in recipe.graph


def test_a_slot_may_be_just_a_name():
    assert load_recipe(changed(graph="line")).graph["name"] == "line"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--graph.kk", "15"], r"unknown key 'graph\.kk'.*Did you mean 'graph\.k'"),
        (["--grap.k", "15"], r"unknown key 'grap\.k'"),
        (["--graph.k", "fifteen"], r"graph\.k.*int.*fifteen"),
        (["--graph.k"], r"--graph\.k has no value"),
        (["graph.k", "3"], r"'graph\.k' is not an override"),
        (["--training.epochs", "0"], r"training\.epochs must be at least 1"),
        (["--training.ema_decay", "1.5"], r"training\.ema_decay"),
        (["--augment.crop", "0"], r"augment\.crop"),
        (["--training.selection", "test"], r"training\.selection"),
        (["--model.in_channels", "5"], r"unknown key 'model\.in_channels'"),
        (["--seeds", "[]"], r"at least one seed"),
        (["--seeds", "[-1]"], r"seeds must not be negative"),
        (["--name", "../elsewhere"], r"cannot name a folder"),
        (["--name", ".."], r"cannot name a folder"),
        (["--name="], r"cannot name a folder"),
        (["--seeds", "[1, 1]"], r"seeds must differ"),
    ],
)
def test_wrong_words_are_named_in_one_line(overrides, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(SMALL, overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"graph": {"k": 3}}, r"graph\.name is missing.*cycle_topk"),
        ({"graph": ["cycle"]}, r"graph must be a mapping"),
        ({"grpah": {"name": "line"}}, r"unknown key 'grpah'.*Did you mean 'graph"),
        ({"training": {"epoch": 3}}, r"unknown key 'training\.epoch'.*training\.epochs"),
    ],
)
def test_wrong_files_are_named_in_one_line(section, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(changed(**section))


def test_unknown_parts_list_what_there_is():
    with pytest.raises(UnknownNameError, match=r"unknown model 'gln'.*Did you mean 'glnn'"):
        load_recipe(SMALL, ["--model.name", "gln"])


def test_unreadable_files(tmp_path):
    with pytest.raises(RecipeError, match=r"there is no recipe 'glnn-prosodi'.*Did you mean 'glnn-prosody'"):
        load_recipe("glnn-prosodi")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "missing.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [1\ncorpus: x", "utf-8")
    with pytest.raises(RecipeError, match="not valid YAML in line"):
        load_recipe(broken)
    broken.write_text("- a list", "utf-8")
    with pytest.raises(RecipeError, match="a recipe is a mapping"):
        load_recipe(broken)


def test_iemocap_recipes_hold_the_published_settings():
    for name, pooling in (("glnn-iemocap-4490", "weighted"), ("glnn-iemocap-5531", "mean")):
        recipe = load_recipe(name)
        assert recipe.features["name"] == "is10"
        assert recipe.features["decimate"] == 1
        assert recipe.features["metadata"] == ["spontaneous"]
        assert recipe.graph["name"] == "cycle_topk"
        assert recipe.graph["k"] == 10
        assert recipe.model["num_layers"] == 3
        assert recipe.model["pooling"] == pooling
        assert recipe.task["optimizer"] == "adam"
        assert recipe.task["learning_rate"] == 1e-5
        assert recipe.task["weight_decay"] == 1e-4
        assert recipe.training.batch_size == 8
        assert recipe.seeds == [0, 1, 2, 3, 4]


def test_corpus_options_are_typed_by_the_adapter():
    assert corpus_options("prosody", {"speakers": "4", "seed": "7"}) == {"speakers": 4, "seed": 7}
    assert corpus_options("table", {"label": "1"}) == {"label": "1"}
    for words, message in (
        ({"speakers": "abc"}, "speakers"),
        ({"speaker": "4"}, r"no option 'speaker'.*Did you mean 'speakers'"),
    ):
        with pytest.raises(RecipeError, match=message):
            corpus_options("prosody", words)


CLIPS = {
    "name": "sounds",
    "corpus": {"name": "folder", "root": "somewhere"},
    "features": {"name": "fbank", "frames": 128},
    "model": {"name": "lhgnn", "size": "ti"},
    "task": {"name": "clip_classification"},
    "protocol": {"name": "stratified"},
}


def test_a_model_that_reads_spectrograms_decides_what_the_other_sections_default_to():
    recipe = load_recipe(CLIPS)
    assert (recipe.reads, recipe.kind) == ("spectrogram", "classification")
    plain = recipe.to_dict()
    assert plain["graph"] == {"name": "none"}
    assert plain["augment"]["name"] == "spectrogram"
    assert plain["standardize"] == {"per": "corpus", "mean": None, "std": None, "clip": 10.0}
    assert not {"num_mel_bins", "frames", "num_classes"} & set(plain["model"])
    assert load_recipe(plain) == recipe
    graph = load_recipe(SMALL)
    assert (graph.reads, graph.kind) == ("graph", "classification")
    assert graph.to_dict()["augment"]["name"] == "frames"
    assert graph.standardize.per == "column"


def test_sections_of_clips_are_typed_and_overridden():
    words = ["--augment.mixup_probability=0.5", "--standardize.per", "column", "--standardize.clip=.inf"]
    recipe = load_recipe(CLIPS, [*words, "--task.milestones=[2, 4]", "--task.schedule", "multistep"])
    assert recipe.augment.mixup_probability == 0.5
    assert recipe.standardize.per == "column"
    assert recipe.standardize.clip == float("inf")
    assert recipe.task["milestones"] == [2, 4]
    assert load_recipe(yaml.safe_load(recipe.to_yaml())) == recipe
    assert load_recipe(CLIPS, ["--task.name", "clip_tagging"]).kind == "tagging"


@pytest.mark.parametrize("name", ["vig", "ast", "cnn14"])
def test_other_models_take_the_place_of_lhgnn(name):
    recipe = load_recipe("lhgnn-esc10", ["--model.name", name])
    assert recipe.model["name"] == name
    assert recipe.augment == load_recipe("lhgnn-esc10").augment
    assert recipe.graph == {"name": "none"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--graph.name", "line"], r"'lhgnn' builds its graph itself; set graph\.name to none"),
        (["--task.name", "graph_classification"], r"set task\.name to clip_classification or clip_tagging"),
        (["--model.name=glnn", "--graph.name=line"], r"'glnn' reads graphs.*set task\.name to graph_classification"),
        (["--augment.name", "frames"], r"needs augment\.name spectrogram"),
        (["--augment.name", "frame"], r"unknown augmentation 'frame'.*Did you mean 'frames'"),
        (["--augment.tempo", "0.1"], r"unknown key 'augment\.tempo'"),
        (["--augment.mixup_probability", "2"], r"augment\.mixup_probability"),
        (["--model.num_mel_bins", "3"], r"unknown key 'model\.num_mel_bins'"),
        (["--standardize.mean", "1"], r"standardize\.mean and standardize\.std go together"),
        (["--standardize.mean=1", "--standardize.std=1", "--standardize.per=column"], r"standardize\.per to 'corpus'"),
        (["--standardize.mean=1", "--standardize.std=0"], r"standardize\.std must be above 0"),
        (["--standardize.clip=0"], r"standardize\.clip must be above 0"),
        (["--training.devices=0"], r"training\.devices must be at least 1"),
        (["--training.averaging=epochs"], r"set training\.selection to 'last' and training\.patience to 0"),
        (
            [
                *("--training.averaging=epochs", "--training.selection=last", "--training.patience=0"),
                *("--training.epochs=3", "--training.average_first=4"),
            ],
            r"average_first 4.*must be epochs of the training.*which has 3",
        ),
        (["--training.class_weights=true", "--task.name=clip_tagging"], r"use training\.balanced"),
    ],
)
def test_wrong_words_on_clips_are_named_in_one_line(overrides, message):
    with pytest.raises(GraphophoneError, match=message) as caught:
        load_recipe(CLIPS, overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("graph", ["none", "signed"])
def test_a_model_that_reads_a_graph_needs_a_builder(graph):
    with pytest.raises(RecipeError, match=r"'glnn' reads a graph of each recording; set graph\.name"):
        load_recipe(changed(graph=graph))


NODES = {
    "name": "nodes",
    "corpus": "prosody",
    "features": {"name": "egemaps"},
    "model": {"name": "subgraph_ssl", "tasks": "denoise+shuffle"},
    "task": "subgraph_classification",
    "protocol": {"name": "stratified", "labelled": 0.2},
}


def test_recordings_as_nodes():
    recipe = load_recipe(NODES, ["--task.edges", "3", "--task.reference_size=20", "--model.tasks=all"])
    assert (recipe.reads, recipe.kind) == ("nodes", "classification")
    assert recipe.to_dict()["augment"] == {"name": "none"}
    assert recipe.graph == {"name": "signed", "positives": 2, "k": None, "far": "any", "labelled_edges": "class"}
    assert recipe.model["tasks"] == "all"
    assert (recipe.task["edges"], recipe.task["reference_size"], recipe.task["attachment"]) == (3, 20, "random")
    assert load_recipe(yaml.safe_load(recipe.to_yaml())).to_dict() == recipe.to_dict()


@pytest.mark.parametrize("tasks", ["[denoise, shuffle]", "{denoise: 0.5}", "none", "completion"])
def test_self_supervised_tasks_as_text_list_or_weights(tasks):
    recipe = load_recipe(NODES, [f"--model.tasks={tasks}"])
    assert recipe.model["tasks"] == yaml.safe_load(tasks)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--graph.name=cycle_topk", r"every recording is a node.* set graph\.name to .*signed"),
        ("--graph.name=none", r"set graph\.name to .*signed"),
        ("--task.name=graph_classification", r"set task\.name to .*subgraph_classification"),
        ("--augment.name=frames", r"needs augment\.name none"),
        ("--task.attachment=far", r"attachment"),
    ],
)
def test_parts_that_do_not_fit_recordings_as_nodes(override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(NODES, [override])


def test_lhgnn_recipes_hold_the_published_settings():
    for name, epochs, averaged in (("lhgnn-audioset", 30, (16, 30)), ("lhgnn-fsd50k", 40, (21, 40))):
        recipe = load_recipe(name)
        assert recipe.kind == "tagging"
        assert (recipe.features["num_mel_bins"], recipe.features["frames"]) == (128, 1024)
        assert (recipe.features["frame_length"], recipe.features["frame_shift"]) == (0.025, 0.01)
        assert (recipe.standardize.mean, recipe.standardize.std) == (-4.6476, 4.5699)
        assert recipe.standardize.clip == float("inf")
        assert (recipe.augment.mixup_probability, recipe.augment.mixup_alpha) == (0.5, 10.0)
        assert (recipe.augment.time_mask, recipe.augment.frequency_mask) == (192, 48)
        assert (recipe.task["optimizer"], recipe.task["learning_rate"]) == ("adamw", 1e-3)
        assert (recipe.task["weight_decay"], recipe.task["betas"]) == (0.05, [0.9, 0.999])
        assert (recipe.task["warmup_steps"], recipe.task["gamma"]) == (1000, 0.5)
        assert recipe.task["milestones"] == list(range(10, epochs, 5))
        assert (recipe.training.epochs, recipe.training.batch_size) == (epochs, 128)
        assert recipe.training.averaged_epochs == averaged
        assert recipe.training.balanced
        assert recipe.training.gradient_clip == 0.5
    recipe = load_recipe("lhgnn-esc50")
    assert (recipe.standardize.mean, recipe.standardize.std) == (-6.6268077, 5.358466)
    assert (recipe.augment.time_mask, recipe.augment.frequency_mask, recipe.features["frames"]) == (96, 24, 512)
    assert (recipe.training.epochs, recipe.training.batch_size, recipe.training.selection) == (25, 48, "last")
    assert (recipe.task["gamma"], recipe.task["milestones"][0]) == (0.85, 5)
    assert recipe.protocol["validation"] == "none"
    assert recipe.seeds == [0, 1, 2, 3, 4]
