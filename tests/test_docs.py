"""The documentation is executed: its Python runs, its commands parse, its recipes load, its links exist."""

import argparse
import contextlib
import inspect
import itertools
import re
import shlex
import shutil
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from graphophone import cli, corpora
from graphophone.corpora import CORPORA, prosody
from graphophone.corpora.downloads import ARCHIVES
from graphophone.evaluation.protocols import PROTOCOLS
from graphophone.features import EXTRACTORS
from graphophone.features.augment import FrameAugmentation
from graphophone.graphs import GRAPHS
from graphophone.models import MODELS
from graphophone.nn.pooling import POOLINGS
from graphophone.recipes import Training, list_recipes, load_recipe
from graphophone.registry import Registry
from graphophone.tasks import TASKS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, ROOT / "CHANGELOG.md"]
REGISTRIES: dict[str, Registry[Any]] = {
    "corpus": CORPORA,
    "extractor": EXTRACTORS,
    "graph": GRAPHS,
    "model": MODELS,
    "protocol": PROTOCOLS,
    "pooling": POOLINGS,
    "task": TASKS,
}
BLOCK = re.compile(r"(?:^<!-- *(?P<mark>[^\n]*?) *-->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.S | re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """Blocks of a page in these languages ("" for none)."""
    content = page.read_text("utf-8")
    found = [
        Block(page, content.count("\n", 0, m.start("text")), m["language"], m["mark"] or "", m["text"])
        for m in BLOCK.finditer(content)
    ]
    return [block for block in found if block.language in languages]


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Words of every graphophone command of a page, with its place; redirections are left off."""
    found = []
    for block in blocks(page, "", "sh"):
        for number, line in enumerate(block.text.replace("\\\n", " ").splitlines()):
            words = shlex.split(line, comments=True)
            if words[:1] == ["graphophone"]:
                words = list(itertools.takewhile(lambda word: word not in (">", "|", "&&"), words))
                found.append((f"{block.place}+{number} {line.strip()}", words[1:]))
    return found


ALL_COMMANDS = [command for page in PAGES for command in commands(page)]
FOLDER_PAGE = ROOT / "docs" / "first_steps.md"


@pytest.fixture
def small_prosody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in corpus with a tenth of its utterances where a page asks for no number."""
    defaults = prosody.load.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "speakers", 4)
    monkeypatch.setitem(defaults, "utterances", 2)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with the recipes that the pages show."""
    monkeypatch.chdir(tmp_path)
    for page in PAGES:
        for block in blocks(page, "yaml"):
            if block.mark.startswith("file:"):
                Path(block.mark.removeprefix("file:").strip()).write_text(block.text, "utf-8")
    return tmp_path


@contextlib.contextmanager
def registries_restored() -> Iterator[None]:
    """What a page registers is forgotten afterwards."""
    before = {kind: dict(registry._entries) for kind, registry in REGISTRIES.items()}
    try:
        yield
    finally:
        for kind, registry in REGISTRIES.items():
            registry._entries.clear()
            registry._entries.update(before[kind])


def run_python(page: Path, monkeypatch: pytest.MonkeyPatch, *, slow: bool) -> int:
    """Run the blocks of a page in order in one namespace; with `slow` also those that are marked so."""
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    count = 0
    with registries_restored():
        for block in blocks(page, "python"):
            if block.mark == "slow" and not slow:
                continue
            code = compile("\n" * block.line + block.text, str(page), "exec")
            exec(code, module.__dict__)  # noqa: S102 - the project's own pages
            count += 1
    return count


def has_slow(page: Path) -> bool:
    return any(block.mark == "slow" for block in blocks(page, "python"))


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


def test_pages_are_found() -> None:
    assert {page.name for page in PAGES} >= {
        "README.md", "corpora.md", "extending.md", "first_steps.md", "recipes.md", "using.md",
    }  # fmt: skip
    assert len(WITH_PYTHON) == 7
    assert len(ALL_COMMANDS) > 40


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_python_of_the_pages_runs(
    page: Path, workplace: Path, small_prosody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opensmile")
    assert run_python(page, monkeypatch, slow=False) > 0


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in WITH_PYTHON if has_slow(page)], ids=lambda page: page.stem)
def test_slow_python_of_the_pages_runs(
    page: Path, workplace: Path, small_prosody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opensmile")
    assert run_python(page, monkeypatch, slow=True) > 0


@pytest.mark.parametrize(("place", "words"), ALL_COMMANDS, ids=[place for place, _ in ALL_COMMANDS])
def test_commands_parse(place: str, words: list[str], workplace: Path) -> None:
    if words == ["--version"]:
        return
    options, rest = cli.build_parser().parse_known_args([word for word in words if word != "--debug"])
    assert hasattr(options, "run"), place
    options.overrides = rest
    if options.run in (cli.run_train, cli.run_neighbours):
        load_recipe(options.recipe, cli._overrides(options))
    elif options.run is cli.run_sweep:
        check_sweep(options)
    else:
        assert not rest, f"{place}: unknown words {rest}"
        check_names(options)


def check_sweep(options: argparse.Namespace) -> None:
    varied = [words.partition("=")[::2] for words in options.vary]
    for values in itertools.product(*(text.split(",") for _, text in varied)):
        chosen = [f"--{key}={value}" for (key, _), value in zip(varied, values, strict=True)]
        load_recipe(options.recipe, [*cli._overrides(options), *chosen])


def check_names(options: argparse.Namespace) -> None:
    """Names that the parser leaves to the command: corpora, their options, extractors, downloads."""
    if options.run is cli.run_corpora_download:
        assert options.corpus in ARCHIVES
    elif getattr(options, "corpus", None) is not None:
        accepted = inspect.signature(CORPORA.get(options.corpus)).parameters
        for pair in getattr(options, "option", []):
            key, equals, _ = pair.partition("=")
            assert equals
            assert key in accepted
        if options.run is cli.run_corpora_check and accepted["root"].default is inspect.Parameter.empty:
            assert options.root
    if getattr(options, "extractor", None):
        assert options.extractor in EXTRACTORS or options.extractor in list_recipes()


def test_a_wrong_option_in_a_page_would_be_found(workplace: Path) -> None:
    parser = cli.build_parser()
    options, rest = parser.parse_known_args(["train", "glnn-prosody", "--graph.kk", "3"])
    options.overrides = rest
    with pytest.raises(Exception, match=r"unknown key 'graph\.kk'"):
        load_recipe(options.recipe, cli._overrides(options))
    assert parser.parse_known_args(["predict", "m", "f.wav", "--fromat", "csv"])[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for block in blocks(page, "", "sh"):
        assert set(re.findall(r"^make ([a-z-]+)", block.text, re.M)) <= targets, block.place


def test_shown_recipe_has_every_key(workplace: Path) -> None:
    shown = yaml.safe_load(Path("my_recipe.yaml").read_text("utf-8"))
    resolved = load_recipe("my_recipe.yaml").to_dict()
    for section, content in resolved.items():
        assert section in shown
        if isinstance(content, dict):
            assert set(content) == set(shown[section]), section


def test_shown_options_are_the_defaults_where_the_page_says_so(workplace: Path) -> None:
    shown = yaml.safe_load(Path("my_recipe.yaml").read_text("utf-8"))
    assert shown["augment"] == {"name": "frames"} | {
        field.name: list(field.default) if isinstance(field.default, tuple) else field.default
        for field in fields(FrameAugmentation)
    }
    assert set(shown["training"]) == {field.name for field in fields(Training)}


def test_every_part_is_mentioned() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES if page.parent.name == "docs")
    for kind, registry in REGISTRIES.items():
        for name in registry.names():
            assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), f"{kind} {name!r} is not documented"
    for name in list_recipes():
        assert f"`{name}`" in text, f"recipe {name!r} is not documented"


def test_every_option_of_a_corpus_is_mentioned() -> None:
    text = (ROOT / "docs" / "corpora.md").read_text("utf-8")
    for name in CORPORA.names():
        for option in inspect.signature(CORPORA.get(name)).parameters:
            if option not in ("root", "name", "progress"):
                assert f"`{option}`" in text, f"option {option!r} of corpus {name!r} is not documented"


def anchors(page: Path) -> set[str]:
    """Anchors that a page's headings get."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_no_page_names_a_place_of_one_machine(page: Path) -> None:
    text = page.read_text("utf-8")
    found = re.findall(r"(?<![\w.:/~-])/(?:home|root|work|tmp|mnt|opt|usr|var|data|Users)\b[^\s`)]*", text)
    assert not found
    assert not re.search(r"\b[A-Z]:\\\\", text)


def make_material(folder: Path) -> None:
    """What the page on first steps supposes: a corpus in folders, the same as a table, and recordings to answer."""
    corpus = corpora.load("prosody")
    speakers = dict.fromkeys(corpus.table["speaker"])
    names = dict(zip(speakers, ("anna", "ben", "cara", "dan"), strict=True))
    rows = []
    columns = (corpus.table[name] for name in ("audio", "label", "speaker"))
    for number, (audio, label, speaker) in enumerate(zip(*columns, strict=True)):
        target = folder / "my_corpus" / str(label) / f"{names[speaker]}_{number:02d}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(audio), target)
        rows.append((str(target.relative_to(folder)), str(label), names[speaker]))
    lines = ["audio,emotion,speaker", *(",".join(row) for row in rows)]
    (folder / "my_corpus.csv").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "calls").mkdir()
    for name in ("new.wav", "one.wav", "calls/1.wav", "calls/2.wav"):
        shutil.copy(rows[0][0], folder / name)
    signal = np.concatenate([soundfile.read(audio)[0] for audio, _, _ in rows[:8]])
    soundfile.write(folder / "interview.wav", signal, 16000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_commands_of_first_steps_and_on_prosody_work(
    workplace: Path, small_prosody: None, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("opensmile")
    make_material(workplace)
    capsys.readouterr()
    chosen = commands(FOLDER_PAGE)
    others = [command for page in PAGES if page != FOLDER_PAGE for command in commands(page)]
    chosen += [command for command in others if "prosody" in command[0]]
    chosen += [command for command in ALL_COMMANDS if "my_recipe.yaml" in command[1]]
    assert len(chosen) > 15
    for place, words in chosen:
        if words == ["--version"]:
            continue
        assert cli.main([*words, "--debug"]) == cli.OK, f"{place}\n{capsys.readouterr().err[-2000:]}"
    for made in ("answers.csv", "why.png", "why.csv", "runs/glnn-folder/report.html", "layers.html"):
        assert (workplace / made).is_file(), made
