import pytest
import yaml

from graphophone.errors import UnknownNameError
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
