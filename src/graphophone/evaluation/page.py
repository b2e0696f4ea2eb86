"""Pages as one HTML file, and the words and numbers that reports and comparisons share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from graphophone import __version__
from graphophone.evaluation.measures import DASH, Measure
from graphophone.evaluation.publication import Published
from graphophone.evaluation.published import corpus_title
from graphophone.evaluation.results import RunResults
from graphophone.evaluation.statistics import Estimate

_MODELS = {
    "glnn": "GLNN",
    "lhgnn": "LHGNN",
    "vig": "ViG",
    "ast": "AST",
    "cnn14": "CNN14",
    "subgraph_ssl": "SubgraphSSL",
    "hemogat": "HemoGAT",
    "rigsl": "RIGSL",
    "m3net": "M3NET",
    "mmgcn": "MMGCN",
    "dialogue_gru": "A GRU over the dialogue",
    "dialogue_transformer": "A transformer over the dialogue",
}


def render(template: str, **context: Any) -> str:
    """Fill a template of this package; text is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(version=__version__, **context)


def write_page(path: Path, text: str) -> Path:
    """Write a page so that a reader never sees half of it; its folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)
    return path


def percent(value: float | None, digits: int = 1) -> str:
    """A rate in percent without the sign; a dash for None."""
    return DASH if value is None else f"{100 * value:.{digits}f}"


def cut(estimate: Estimate) -> Estimate:
    """An interval of a rate without what lies below 0 or above 1."""
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))


def plural(count: int, word: str) -> str:
    """``1 run``, ``1,200 runs``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def listed(words: Sequence[str], limit: int = 8) -> str:
    """``a, b and c``; of more than ``limit`` words the first and how many more; ``;`` where words have commas."""
    between = "; " if any("," in word for word in words[:limit]) else ", "
    if len(words) > limit:
        return f"{between.join(words[:limit])} and {len(words) - limit} more"
    return " and ".join([between.join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def plain(value: Any) -> str:
    """A value of a recipe as people write it."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(plain, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def model_title(results: RunResults) -> str:
    """A model's name as people write it."""
    name = str((results.info.get("model") or {}).get("name") or "model")
    return _MODELS.get(name, name)


def corpus_of(results: RunResults) -> str:
    """The name of a run's corpus as people write it."""
    return corpus_title(str((results.info.get("corpus") or {}).get("name") or "unnamed corpus"))


def data_words(results: RunResults) -> str:
    """``1,440 items, 1,296 of them without label, 8 classes, 24 speakers``."""
    corpus = results.info.get("corpus") or {}
    parts = []
    if corpus.get("items"):
        parts.append(plural(int(corpus["items"]), "item"))
    if corpus.get("unlabelled"):
        parts.append(f"{int(corpus['unlabelled']):,} of them without label")
    parts.append(results.measures.noun(len(results.classes)))
    if corpus.get("speakers"):
        parts.append(plural(int(corpus["speakers"]), "speaker"))
    return ", ".join(parts)


def published_value(result: Published, measure: Measure) -> float | None:
    """A published figure as a fraction."""
    value = getattr(result, measure.key, None)
    return value / 100 if value is not None and measure.percent else value


def published_words(result: Published, measure: Measure) -> str:
    """A published figure as a table writes it, with its spread over seeds where it is known."""
    value = published_value(result, measure)
    spread = result.spread.get(measure.key) if isinstance(result.spread, Mapping) else result.spread
    if value is None or spread is None:
        return measure.write(value)
    return f"{measure.write(value)} ± {spread:.{1 if measure.percent else 2}f}"


def with_article(words: str) -> str:
    """Words with their indefinite article."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def sentence(words: str) -> str:
    """Words with a capital first letter."""
    return f"{words[:1].upper()}{words[1:]}"
