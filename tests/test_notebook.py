"""memsweep in a notebook: the documentation's does what it shows, and a launch is interrupted and goes on."""

import os
import re
import signal

import nbformat
import pytest
from nbclient import NotebookClient

from docs import notebook
from tests.test_readme import alike

pytestmark = pytest.mark.launches


def texts(output):
    """Kind of an output, and its texts without tags and rates, by type; of a figure its type alone."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    words = {kind: re.sub(r"<[^>]*>|, [\d,]+ steps/s", " ", text) for kind, text in data.items() if "text" in kind}
    return output.output_type, sorted(data), words


def test_the_notebook_does_what_it_shows(tmp_path, ray_address):
    expected = notebook.read()
    joins = f"import functools, memsweep\nmemsweep.launch = functools.partial(memsweep.launch, address={ray_address!r})"
    ran = notebook.executed(expected, tmp_path, joins)
    codes = [cell for cell in expected.cells if cell.cell_type == "code"]
    for cell, again in zip(codes, (cell for cell in ran.cells if cell.cell_type == "code"), strict=True):
        for output, new in zip(cell.outputs, again.outputs, strict=True):
            (kind, types, words), (new_kind, new_types, new_words) = texts(output), texts(new)
            assert (kind, types) == (new_kind, new_types), cell.source
            assert all(alike(new_words[name], text) for name, text in words.items()), (words, new_words)


class Interrupting(NotebookClient):
    """Runs a notebook, and interrupts the kernel as Jupyter does once the first cell's trials are in training."""

    is_interrupted = False

    def process_message(self, message, cell, number):
        shown = message["content"].get("data", {}).get("text/plain", "")
        if number == 0 and not self.is_interrupted and re.search(r", [1-9][\d,]* of [\d,]+ steps", shown):
            self.is_interrupted = True
            os.killpg(self.km.provisioner.pid, signal.SIGINT)
        return super().process_message(message, cell, number)


def test_an_interrupted_cell_goes_on_when_it_runs_again(tmp_path, ray_address):
    launch = f"""import memsweep
fields = {{"data.examples": 100, "data.test_examples": 0, "optimizer.batch_size": 50, "optimizer.epochs": 3000}}
sweep = memsweep.Sweep("long", {{**fields, "stop.measure_steps": 500}}, seeds=range(4))
report = memsweep.launch(sweep, results="results", address={ray_address!r})
"""
    counts = "print(report.interrupted, report.missing, report.saved[1] > 0)"
    cells = [nbformat.v4.new_code_cell(text) for text in (launch, counts, launch, counts)]
    book = nbformat.v4.new_notebook(cells=cells)
    Interrupting(book, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [cell.outputs[0].text for cell in book.cells[1::2]] == ["True 4 True\n", "False 0 False\n"]
    bars = [output.data["text/plain"] for cell in book.cells[::2] for output in cell.outputs]
    assert len(bars) == 2 and bars[0].startswith("long: 0 of 4 trials, ")
    assert bars[1].startswith("long: 4 of 4 trials, 24,000 of 24,000 steps")
