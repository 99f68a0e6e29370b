"""The user's files and given data on a cluster of several machines, which raylets of this one play."""

import json
import struct
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pytest
from PIL import Image

import memsweep
from memsweep.spec.contents import content_of
from tests.cluster.machines import Machines, on_loopback

ROWS = 60
CLASSES = np.arange(ROWS) % 3
FRAME = pd.DataFrame(
    {**dict(zip("abc", np.random.default_rng(1).normal(size=(3, ROWS)), strict=True)), "label": CLASSES}
)
PIXELS = np.random.default_rng(2).integers(0, 256, (ROWS, 6, 5), np.uint8)
FIELDS = {
    **{"data.examples": 30, "data.validation_examples": 10, "data.test_examples": 10, "model.width": 4},
    **{"optimizer.epochs": 2, "optimizer.batch_size": 10},
}
GIVING = """
import sys, numpy as np, memsweep
frame = {"x": np.random.default_rng(3).normal(size=(60, 3)), "label": np.arange(60) % 3}
sweep = memsweep.Sweep("given", FIELDS | {"data.task": "given:mine"}, seeds=range(3))
memsweep.launch(sweep, "results", data={"mine": frame}, address=sys.argv[1], tracking_uri="none")
"""


@pytest.fixture(scope="module")
def machines():
    cluster = Machines(on_loopback())
    yield cluster
    cluster.kill()


def write_sources(folder):
    """One small source of each kind, by its relative path."""
    FRAME.to_csv(folder / "mine.csv", index=False)
    FRAME.to_parquet(folder / "mine.parquet")
    np.savez(folder / "mine.npz", x=FRAME[["a", "b", "c"]], label=CLASSES)
    for name, array in (("images-idx3", PIXELS), ("labels-idx1", CLASSES.astype(np.uint8))):
        path = folder / "idx" / f"train-{name}-ubyte"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes())
    for i, pixels in enumerate(PIXELS):
        path = folder / "pictures" / str(CLASSES[i]) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (folder / "saved").mkdir()
    with pa.ipc.new_stream(
        folder / "saved" / "data-00000-of-00001.arrow", pa.Table.from_pandas(FRAME).schema
    ) as stream:
        stream.write_table(pa.Table.from_pandas(FRAME))
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (folder / "saved" / "state.json").write_text(json.dumps(state))
    return ["mine.csv", "mine.parquet", "mine.npz", "idx", "pictures", "saved"]


def launched(machines, folder, *command):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=machines.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.timeout(600)
def test_relative_paths_of_every_kind_start_in_the_launchs_folder(machines, tmp_path, monkeypatch):
    tasks = tuple(f"file:{name}" for name in write_sources(tmp_path))
    text = (
        f"from memsweep import Sweep\nSWEEP = Sweep('mine', {FIELDS}, axes={{'data.task': {tasks}}}, seeds=range(2))\n"
    )
    (tmp_path / "mine.py").write_text(text)
    options = ("--address", machines.address, "--tracking-uri", "none")
    done = launched(machines, tmp_path, "-m", "memsweep", "launch", "mine.py", *options)
    assert done.returncode == 0, done.stderr
    trials = memsweep.table("trials", tmp_path / "results")
    assert (trials.status == "finished").all() and len(trials) == 2 * len(tasks), trials.cause.tolist()
    monkeypatch.chdir(tmp_path)
    assert dict(zip(trials.data_task, trials.data_content, strict=True)) == {task: content_of(task) for task in tasks}
    verified = launched(machines, tmp_path, "-m", "memsweep", "verify", "--sample", "6", "--format", "csv")
    assert verified.returncode == 0 and "6 exact, 0 differ" in verified.stderr, verified.stderr


@pytest.mark.timeout(600)
def test_given_data_reaches_every_machine_by_the_results_folder(machines, tmp_path):
    (tmp_path / "give.py").write_text(GIVING.replace("FIELDS", str(FIELDS)))
    done = launched(machines, tmp_path, "give.py", machines.address)
    assert done.returncode == 0, done.stderr
    trials = memsweep.table("trials", tmp_path / "results")
    assert (trials.status == "finished").all() and len(trials) == 3
    again = launched(machines, tmp_path, "-m", "memsweep", "verify", "--format", "csv")
    assert again.returncode == 0 and "3 exact, 0 differ" in again.stderr, again.stderr
