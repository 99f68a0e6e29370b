"""`memsweep slurm` on a real SLURM: several nodes, arrays, time limits and pre-emption end with each trial once."""

import os
import re
import sys
import time
from pathlib import Path

import pytest

import memsweep
from tests.slurm.simulated import Cluster, cluster, reason_against
from tests.test_launch import memsweep_, rows

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
TINY = ["smoke", "--set", "optimizer.epochs=60", "--set", "seeds=0:8", "--members", "4", "--compile", "never"]
LONG = ["smoke", "--set", "stop.steps=3000", "--set", "stop.measure_steps=500", "--set", "seeds=0:2"]
LONG += ["--set", "regularization.penalty=dawdling:penalty", "--set", "regularization.penalty_strength=1"]
LONG += ["--compile", "never", "--checkpoint", "10m"]  # checkpoints are written only when a launch is ended
STEPS = 8 * 3000
DAWDLING = """
import os, time
def penalty(parameters, inputs, logits):
    if os.path.exists(os.environ.get("DAWDLE", "/nowhere")):
        time.sleep(0.2)
    return 0 * logits.sum()
"""
"""A function that lets a step take as long on any machine, while a file exists."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if reason := reason_against():
        pytest.skip(reason)
    with cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def submit(slurm: Cluster, results: Path, *words: object, **environment: str) -> str:
    """Submits with the command; returns the job's id."""
    command = [sys.executable, "-m", "memsweep", "slurm", *words, "--results", results]
    environment = {"MLFLOW_TRACKING_URI": "none", **environment}
    return slurm(*command, **environment)


def log(results: Path) -> str:
    return "\n".join(path.read_text() for path in sorted((results / "slurm").glob("[0-9]*.log")))


def leftovers(results: Path) -> list[str]:
    """Tokens and rows of jobs that have ended."""
    return [path.name for path in (results / "slurm").glob(".*")]


def running(slurm: Cluster) -> str:
    """The commands of all processes of the cluster, without those that have ended and wait for their parent."""
    lines = slurm("ps", "-eo", "stat,args").splitlines()
    return "\n".join(line for line in lines if not line.startswith("Z"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, ray_address, importable):
    (importable / "dawdling.py").write_text(DAWDLING)
    results = tmp_path_factory.mktemp("undisturbed")
    environment = {**os.environ, "PYTHONPATH": str(importable)}
    ended = memsweep_("launch", *LONG, "--results", results, "--address", ray_address, env=environment)
    assert ended.returncode == 0, ended.stderr
    return results


@pytest.fixture
def dawdling(tmp_path, importable):
    """Variables of a job whose steps take long until the file in DAWDLE is deleted."""
    (tmp_path / "dawdle").touch()
    return {"DAWDLE": str(tmp_path / "dawdle"), "PYTHONPATH": str(importable)}


def assert_undisturbed(results, undisturbed):
    """Each trial once, with equal numbers; `packs` counts every step once, so nothing was trained again."""
    for table in ("trials", "steps"):
        mine, theirs = rows(results, table, {"pack_id"}), rows(undisturbed, table, {"pack_id"})
        assert len(mine) and mine.equals(theirs), mine.compare(theirs)
    assert memsweep.table("packs", results)["member_step_count"].sum() == STEPS


def test_one_processor_of_many_is_one_worker_and_mlflow_is_filled(slurm, tmp_path):
    count = f"{sys.executable} -c 'from memsweep.spec import processors as p; print(p.allotted(), p.memory() >> 20)'"
    options = ("--parsable", "--cpus-per-task=1", "--mem=500", f"--output={tmp_path}/count", "--wrap", count)
    slurm.wait(slurm("sbatch", *options))
    assert (tmp_path / "count").read_text() == "1 500\n"
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    job = submit(slurm, tmp_path, *TINY, "--cpus-per-task", 1, "--mem", "2G", MLFLOW_TRACKING_URI=uri)
    assert slurm.wait(job) == {"COMPLETED"}, log(tmp_path)
    assert "32 of 32 trials finished, 32 of them run now" in log(tmp_path) and "holds all trials" in log(tmp_path)
    assert memsweep.sql("select count(distinct host) from packs", tmp_path).iloc[0, 0] == 1
    assert leftovers(tmp_path) == []


def test_two_jobs_on_the_same_two_nodes_do_not_touch_each_other(slurm, tmp_path):
    folders = [tmp_path / name for name in ("a", "b")]
    jobs = [submit(slurm, folder, *TINY, "--nodes", 2) for folder in folders]
    for job, folder in zip(jobs, folders, strict=True):
        assert slurm.wait(job) == {"COMPLETED"}, log(folder)
        assert "32 of 32 trials finished, 32 of them run now" in log(folder)
        assert "2 of 2 nodes run Ray" in log(folder)
        hosts = memsweep.sql("select host, sum(settled_count) n from packs group by host order by host", folder)
        assert hosts["host"].tolist() == ["n1", "n2"] and hosts["n"].sum() == 32
        assert leftovers(folder) == [] and not list(Path("/tmp").glob(f"ms-{job}-*"))
    assert "raylet" not in running(slurm)


def test_an_array_of_four_jobs_shares_the_trials(slurm, tmp_path):
    job = submit(slurm, tmp_path, *TINY, "--array", 4)
    assert slurm.wait(job) == {"COMPLETED"}, log(tmp_path)
    assert sorted(re.findall(r"part (./.): (\d+) of", log(tmp_path))) and leftovers(tmp_path) == []
    counts = memsweep.sql("select sum(settled_count), sum(member_step_count) from packs", tmp_path).iloc[0]
    assert counts.tolist() == [32, 32 * 60 * 4] and len(memsweep.table("trials", tmp_path)) == 32
    assert memsweep.sql("select count(*) from launches", tmp_path).iloc[0, 0] == 4


def test_a_job_queues_itself_again_at_its_time_limit_until_all_is_done(slurm, tmp_path, undisturbed, dawdling):
    job = submit(slurm, tmp_path, *LONG, "--cpus-per-task", 2, "--time", 2, "--grace", "20s", **dawdling)
    wait_for(tmp_path, "queued again\n", times=2, seconds=400)
    Path(dawdling["DAWDLE"]).unlink()
    assert slurm.wait(job) == {"COMPLETED"}, log(tmp_path)
    gains = [int(steps) for steps in re.findall(r"(\d+) steps were gained: queued again", log(tmp_path))]
    assert len(gains) >= 2 and 0 < sum(gains) < STEPS and log(tmp_path).count("time is short") == len(gains)
    assert f"Restarts={len(gains)} " in slurm("scontrol", "show", "job", job)
    assert_undisturbed(tmp_path, undisturbed)


def test_a_job_that_gains_nothing_is_not_queued_again(slurm, tmp_path, undisturbed, dawdling):
    job = submit(slurm, tmp_path, *LONG, "--cpus-per-task", 2, **dawdling)
    wait_for(tmp_path, "starting")
    slurm("scancel", "--batch", "--signal=USR1", job)
    assert slurm.wait(job) == {"FAILED"}
    assert "time is short" in log(tmp_path) and "the launch has ended with 130" in log(tmp_path)
    assert "Restarts=0 " in slurm("scontrol", "show", "job", job)


def test_a_preempted_job_loses_nothing_and_a_cancelled_job_ends(slurm, tmp_path, undisturbed, dawdling):
    job = submit(slurm, tmp_path, *LONG, "--nodes", 2, **dawdling)
    wait_for(tmp_path, "steps/s")
    urgent = ("--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 3")
    slurm.wait(slurm("sbatch", "--parsable", *urgent))
    assert re.search(r" [1-9]\d* steps were gained: queued again", log(tmp_path)), log(tmp_path)
    wait_for(tmp_path, "queued again 1 times")
    wait_for(tmp_path, "steps/s", times=log(tmp_path).count("steps/s") + 1)
    slurm("scancel", job)
    assert slurm.wait(job) == {"CANCELLED"}
    assert leftovers(tmp_path) == [] and "raylet" not in running(slurm)
    Path(dawdling["DAWDLE"]).unlink()
    again = submit(slurm, tmp_path, *LONG, "--cpus-per-task", 2, **dawdling)
    assert slurm.wait(again) == {"COMPLETED"}, log(tmp_path)
    assert_undisturbed(tmp_path, undisturbed)


def wait_for(results: Path, text: str, times: int = 1, seconds: float = 120) -> None:
    """Waits until the logs of the jobs contain a text.  times: how often, in total."""
    until = time.monotonic() + seconds
    while log(results).count(text) < times:
        assert time.monotonic() < until, log(results)
        time.sleep(0.3)
