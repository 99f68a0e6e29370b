"""Small tables as HTML, which notebooks show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def table(head: Sequence[str], rows: Iterable[Sequence[object]], title: str = "", notes: Iterable[str] = ()) -> str:
    """Returns a table as HTML, its title before it and notes after it; all texts are escaped."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    before = f"<b>{escape(title)}</b>" if title else ""
    after = "".join(f"<br>{escape(note)}" for note in notes)
    return f"<div>{before}<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{after}</div>"
