"""Fonts as figures embed them in PDF files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

from fontTools import subset  # by which Matplotlib reduces fonts to the glyphs of a figure

LAYOUT_TABLES = ("GDEF", "GPOS", "GSUB", "kern")
"""Tables for typesetting, which a PDF does not read: it has the place of each glyph."""

_LOCK = RLock()


@contextmanager
def without_layout() -> Iterator[None]:
    """Leaves LAYOUT_TABLES out of the fonts that Matplotlib embeds within the context; one thread at a time.

    Reducing these tables takes over half of the time of embedding a font. Matplotlib has no option to skip them.
    """
    with _LOCK:
        load = subset.load_font

        def load_without_layout(*arguments: Any, **options: Any) -> Any:
            font = load(*arguments, **options)
            for table in LAYOUT_TABLES:
                if table in font:
                    del font[table]
            return font

        subset.load_font = load_without_layout
        try:
            yield
        finally:
            subset.load_font = load
