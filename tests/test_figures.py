"""Figures keep their style whatever the user's Matplotlib is set to, leave it as it is, and show in notebooks."""

import io
import os
import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from fontTools import subset
from matplotlib import font_manager
from matplotlib.backends import _backend_pdf_ps

import memsweep
from memsweep.analysis.core import figures, fonts
from tests.test_report import grid, store_of

DARK = {"figure.facecolor": "black", "axes.facecolor": "black", "savefig.facecolor": "red", "text.color": "white",
        "xtick.color": "white", "font.size": 20, "savefig.dpi": 50, "savefig.bbox": "tight"}  # fmt: skip


def drawn():
    with figures.canvas() as ax:
        frame = pd.DataFrame({"x": [1.0, 2.0], "estimate": 0.5, "low": 0.4, "high": 0.6, "missing": 0})
        figures.curve(ax, frame, "x", label="a", marker="o")
        figures.legend(ax, "a title")
    return ax.figure


def saved(figure):
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def test_a_figure_of_ours_changes_neither_backend_nor_settings_nor_figures_of_the_user(tmp_path):
    """As in a notebook: a figure of ours, then one of the user's own."""
    store_of(tmp_path, "generalization", [(trial, {}) for trial in grid()])
    program = f"""
import matplotlib, sys
matplotlib.rcParams["font.size"] = 17
before = dict(matplotlib.rcParams.copy())
import memsweep
figure = memsweep.figure("generalization", results={str(tmp_path)!r})
assert "matplotlib.pyplot" not in sys.modules
assert dict(matplotlib.rcParams.copy()) == before
import matplotlib.pyplot as plt
assert plt.get_backend() == "svg" and plt.get_fignums() == []
"""
    environment = {**os.environ, "MPLBACKEND": "svg"}
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=100
    )
    assert ended.returncode == 0, ended.stderr


def test_a_notebook_shows_the_figure_as_a_picture(tmp_path):
    """IPython asks an object for its PNG before it prints its text."""
    store_of(tmp_path, "generalization", [(trial, {}) for trial in grid()])
    assert memsweep.figure("generalization", results=tmp_path)._repr_png_().startswith(b"\x89PNG")


def test_the_users_style_reaches_no_figure_of_ours():
    plain = drawn()
    expected = saved(plain)
    with matplotlib.rc_context(DARK):
        dark = drawn()
        assert saved(dark) == expected
        assert saved(plain) == expected  # also one that is saved later
        assert {name: matplotlib.rcParams[name] for name in DARK} == DARK
    assert saved(dark) == expected


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_a_legend_lies_outside_of_the_users_own_axes(layout):
    figure, ax = plt.subplots(layout=layout)
    ax.plot([0, 1], [0, 1], label="a curve of some length")
    ax.set_xlabel("x")
    figures.legend(ax, "a title")
    figure.canvas.draw()
    (legend,) = figure.legends
    assert not legend.get_window_extent().overlaps(ax.get_tightbbox())
    plt.close(figure)


def test_a_saved_figure_is_drawn_once_for_each_file(tmp_path, monkeypatch):
    draws, draw = [], figures.Picture.draw
    monkeypatch.setattr(figures.Picture, "draw", lambda figure, renderer: draws.append(1) or draw(figure, renderer))
    with figures.canvas() as ax:
        ax.plot([1, 2])
        paths = figures.save(ax, tmp_path, "figure", "A figure")
    assert len(draws) == len(paths) == 3 and all(path.stat().st_size > 1000 for path in paths)


def embedded(letters):
    """The font that Matplotlib embeds for these letters: its tables, and width and outline of each letter."""
    path = font_manager.findfont("DejaVu Sans")
    glyphs = {letter: font_manager.get_font(path).get_char_index(ord(letter)) for letter in letters}
    with _backend_pdf_ps.get_glyphs_subset(path, set(glyphs.values())) as reduced:
        names = {letter: reduced.font.getGlyphName(reduced.glyph_index_map[glyph]) for letter, glyph in glyphs.items()}
        outlines = {
            letter: list(reduced.font["glyf"][name].getCoordinates(reduced.font["glyf"])[0])
            for letter, name in names.items()
        }
        widths = {letter: reduced.font["hmtx"][name] for letter, name in names.items()}
        return set(reduced.font.keys()), outlines, widths


def test_embedded_fonts_have_the_same_letters_without_tables_for_typesetting():
    letters, usual = "AVfi0.5%", subset.load_font
    tables, *drawn_as = embedded(letters)
    with fonts.without_layout():
        fewer, *drawn_without = embedded(letters)
    assert drawn_without == drawn_as and all(drawn_as[0].values())
    assert tables - fewer == tables & set(fonts.LAYOUT_TABLES) != set()
    assert subset.load_font is usual
