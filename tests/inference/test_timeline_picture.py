from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graphophone.errors import GraphophoneError
from graphophone.inference import timeline_picture
from graphophone.inference.timeline_picture import draw_timeline, save_timeline


def make_frame(windows: int = 40, tags: int = 30) -> pd.DataFrame:
    """Tag `i` is loudest in window `i`; the last tags are the most probable. Two windows are silent."""
    distance = np.abs(np.arange(windows)[:, None] - np.arange(tags))
    values = np.exp(-distance / 3) * np.linspace(0.2, 1, tags)
    values[35:37] = np.nan
    start = 0.5 * np.arange(windows)
    columns = {f"p_{'$' if i == 29 else ''}tag {i}": values[:, i] for i in range(tags)}
    frame = pd.DataFrame({"start": start, "end": start + 1, "label": "x", **columns})
    frame.attrs = {"file": "street.wav"}
    return frame


def test_the_likeliest_tags_are_drawn_where_they_are_heard(tmp_path: Path):
    figure = draw_timeline(make_frame(), rows=4)
    axes, bar = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["$tag 29", "tag 28", "tag 27", "tag 26"]
    values = axes.collections[0].get_array().reshape(4, 40)
    assert values.argmax(axis=1).tolist() == [29, 28, 27, 26]
    assert values.mask.any(axis=0).nonzero()[0].tolist() == [35, 36]
    assert axes.get_title(loc="left") == "street.wav  (grey: silence)"
    assert axes.get_xlim() == (0.0, 20.5)
    assert bar.get_ylim() == (0, 1)
    for name in ("a.png", "a.svg"):
        assert save_timeline(make_frame(), tmp_path / name).stat().st_size > 5000


def test_no_peak_is_lost_in_a_long_recording(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timeline_picture, "_COLUMNS", 10)
    values = draw_timeline(make_frame(), rows=2).axes[0].collections[0].get_array().reshape(2, 10)
    assert values[0].max() == pytest.approx(1)
    assert not values.mask.any()  # there is sound in every fourth of a second that is drawn


def test_what_cannot_be_drawn_is_said(tmp_path: Path):
    with pytest.raises(GraphophoneError, match="no windows"):
        draw_timeline(make_frame().iloc[:0])
    with pytest.raises(GraphophoneError, match="rows"):
        draw_timeline(make_frame(), rows=0)
    with pytest.raises(GraphophoneError, match="no folder"):
        save_timeline(make_frame(), tmp_path / "no" / "a.png")
    with pytest.raises(GraphophoneError, match=r"a\.docx"):
        save_timeline(make_frame(), tmp_path / "a.docx")
