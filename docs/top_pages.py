"""MkDocs hook: adds the pages that GitHub expects outside docs/ to the site, and points links at their place there."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.txt",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "LICENSE.txt",
    "SECURITY.md": "security.md",
    "tests/cluster/FAILURES.md": "explanation/failure-tests.md",
}
"""File in the repository -> file of the site; Markdown becomes a page."""
LINK = re.compile(r'(\]\(|(?:src|href)=")([^)"\s#:]+)(?=[)"#])')
"""The start of a Markdown or HTML link, and its relative target without the anchor."""


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Returns the site's files with the pages of PAGES."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Returns the page's text with links that lead to the same pages in the site as in the repository."""
    return relinked(markdown, page.file.src_uri)


def relinked(markdown: str, page: str) -> str:
    """Returns the text with relative links as they are in the repository replaced by those of the site.

    page: the page's path in the site, such as how-to/search.md.
    """
    sources = {site: source for source, site in PAGES.items()}
    folder = posixpath.dirname(sources.get(page, f"docs/{page}"))

    def link(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[2]))
        target = PAGES.get(path, path.removeprefix("docs/"))
        return match[1] + posixpath.relpath(target, posixpath.dirname(page) or ".")

    return LINK.sub(link, markdown)
