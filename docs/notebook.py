"""Runs the notebook of the documentation and stores it with its output: `python -m docs.notebook`, then `make docs`."""

import base64
import copy
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat

FOLDER = Path(__file__).parent
NOTEBOOK = FOLDER / "notebook.ipynb"
IMAGE = "images/notebook-{}.png"
HOME = "/home/ada/notes"
"""Stands in the output for the folder in which the notebook ran."""


def read() -> Any:
    """The notebook with its output."""
    return nbformat.read(NOTEBOOK, as_version=4)


def executed(notebook: Any, folder: Path, first: str = "") -> Any:
    """The notebook with the output of a run in this folder.  first: a cell that runs before the others."""
    from nbclient import NotebookClient

    cells = [nbformat.v4.new_code_cell(first), *copy.deepcopy(notebook.cells)]
    ran = nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)
    NotebookClient(ran, timeout=280, resources={"metadata": {"path": str(folder)}}, record_timing=False).execute()
    ran = nbformat.reads(nbformat.writes(ran).replace(str(folder), HOME), as_version=4)
    ran.cells = ran.cells[1:]
    for number, cell in enumerate((cell for cell in ran.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = number
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
    ran.metadata = notebook.metadata
    return ran


def page() -> str:
    """The notebook as Markdown: outputs as text, figures as the files that `python -m docs.notebook` writes."""
    parts = list[str]()
    for cell in read().cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                parts.append(f"![{cell.metadata.alt}]({IMAGE.format(cell.id)})")
            else:
                text = output["data"]["text/plain"] if "data" in output else output.text
                parts.append(f"```text\n{re.sub(r' +$', '', text.rstrip(), flags=re.MULTILINE)}\n```")
    title, _, start = parts[0].partition("\n\n")
    note = "*Written by `make docs` from [the notebook](notebook.ipynb), which shows tables where this page has text.*"
    return "\n\n".join([title, note, start, *parts[1:]]) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(read(), Path(folder))
    NOTEBOOK.write_text(nbformat.writes(notebook) + "\n")
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if png := output.get("data", {}).get("image/png"):
                (FOLDER / IMAGE.format(cell.id)).write_bytes(base64.b64decode(png))
