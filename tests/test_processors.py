"""What is counted is what this process has been allotted: by affinity, by control groups, by SLURM."""

import json
import os

import pytest
import torch

from memsweep.check import doctor
from memsweep.run import cluster, plan
from memsweep.spec import processors
from tests.test_launch import memsweep_


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """Makes control groups of this process, of version 1 or 2, from the files in each of them."""
    monkeypatch.setattr(processors, "installed", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(48)), raising=False)
    for name in (*processors.SLURM, *processors.SLURM_MEMORY):
        monkeypatch.delenv(name, raising=False)

    def make(files, *, own="/outer/job", root="/", kind="cgroup2 cgroup2 rw", line="0::"):
        mount, proc = tmp_path / "a mount", tmp_path / "proc"
        for path, text in files.items():
            (mount / path).parent.mkdir(parents=True, exist_ok=True)
            (mount / path).write_text(f"{text}\n")
        proc.mkdir()
        (proc / "cgroup").write_text(f"7:pids:/elsewhere\n{line}{own}\n")
        place = str(mount).replace(" ", "\\040")
        (proc / "mountinfo").write_text(
            f"22 1 0:20 / /proc rw - proc proc rw\n30 22 0:26 {root} {place} rw,nosuid shared:9 - {kind}\n"
        )
        monkeypatch.setattr(processors, "PROC", proc)

    return make


V1 = {"kind": "cgroup cgroup rw,cpu,cpuacct", "line": "4:cpu,cpuacct:"}


@pytest.mark.parametrize(
    "files, ways, right",
    [
        ({"outer/job/cpu.max": "400000 100000"}, {}, 4),
        ({"outer/job/cpu.max": "max 100000", "outer/cpu.max": "600000 100000"}, {}, 6),  # of a group around it
        ({"outer/job/cpu.max": "800000 100000", "cpu.max": "300000 100000"}, {}, 3),
        ({"outer/job/cpu.max": "250000 100000"}, {}, 2),
        ({"outer/job/cpu.max": "50000 100000"}, {}, 1),  # half of one is the only one
        ({"outer/job/cpu.max": "max 100000"}, {}, 48),
        ({"outer/job/cpu.max": "unheard of"}, {}, 48),
        ({}, {}, 48),
        ({"cpu.max": "500000 100000"}, {"own": "/docker/7", "root": "/docker/7"}, 5),
        ({"cpu.max": "500000 100000"}, {"own": "/../../job"}, 5),  # seen from within another namespace
        ({"outer/job/cpu.cfs_quota_us": "400000", "outer/job/cpu.cfs_period_us": "100000"}, V1, 4),
        ({"outer/job/cpu.cfs_quota_us": "-1", "outer/job/cpu.cfs_period_us": "100000"}, V1, 48),
        ({"outer/cpu.cfs_quota_us": "350000", "outer/cpu.cfs_period_us": "100000"}, V1, 3),
    ],
)
def test_a_quota_of_control_groups_counts(groups, files, ways, right):
    groups(files, **ways)
    assert processors.allotted() == right


@pytest.mark.parametrize(
    "set_, right",
    [
        ({"SLURM_CPUS_PER_TASK": "6"}, 6),
        ({"SLURM_CPUS_PER_TASK": "6", "SLURM_CPUS_ON_NODE": "3"}, 3),
        ({"SLURM_CPUS_PER_TASK": "6", "SLURM_CPUS_ON_NODE": "32"}, 6),
        ({"SLURM_CPUS_ON_NODE": "32"}, 32),
        ({"SLURM_CPUS_PER_TASK": "900"}, 48),
        ({"SLURM_CPUS_PER_TASK": ""}, 48),
        ({"SLURM_CPUS_PER_TASK": "0"}, 48),
        ({"SLURM_CPUS_PER_TASK": "many"}, 48),
    ],
)
def test_what_slurm_has_given_counts(groups, monkeypatch, set_, right):
    groups({})
    for name, value in set_.items():
        monkeypatch.setenv(name, value)
    assert processors.allotted() == right


def test_without_affinity_and_groups_the_machine_counts(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(processors, "PROC", tmp_path)
    monkeypatch.setattr(processors, "installed", lambda: 64)
    for name in processors.SLURM:
        monkeypatch.delenv(name, raising=False)
    assert processors.allotted() == 64 and processors.memory_left() == float("inf")


@pytest.mark.parametrize(
    "files, ways, right",
    [
        ({"memory.max": 9000, "memory.current": 5000, "memory.stat": "anon 1\ninactive_file 2000"}, {}, 6000),
        ({"memory.max": 9000, "memory.current": 9500, "memory.stat": ""}, {}, 0),
        ({"memory.max": "max", "memory.current": 5000, "memory.stat": ""}, {}, float("inf")),
        (
            {"memory.limit_in_bytes": 800, "memory.usage_in_bytes": 500, "memory.stat": "total_inactive_file 100"},
            {"kind": "cgroup cgroup rw,memory", "line": "4:memory:"},
            400,
        ),
    ],
)
def test_a_limit_of_memory_counts(groups, files, ways, right):
    groups({f"outer/job/{name}": text for name, text in files.items()}, **ways)
    assert processors.memory_left() == right


@pytest.mark.parametrize(
    "limits, variables, allotted, left",
    [
        ({}, {}, 64 << 20, float("inf")),
        ({"outer/memory.max": 9 << 20}, {}, 9 << 20, 8 << 20),  # of a group around it, with 1 MiB in use
        ({"outer/job/memory.max": "max", "outer/memory.max": "unheard of"}, {}, 64 << 20, float("inf")),
        ({}, {"SLURM_MEM_PER_NODE": "7"}, 7 << 20, 7 << 20),
        ({}, {"SLURM_MEM_PER_NODE": "0"}, 64 << 20, float("inf")),  # all of the node
        ({}, {"SLURM_MEM_PER_CPU": "2", "SLURM_CPUS_ON_NODE": "3"}, 6 << 20, 6 << 20),
        ({"outer/memory.max": 5 << 20}, {"SLURM_MEM_PER_NODE": "7"}, 5 << 20, 4 << 20),
    ],
)
def test_memory_is_the_least_that_groups_and_slurm_allot(groups, monkeypatch, limits, variables, allotted, left):
    monkeypatch.setattr(processors, "installed_memory", lambda: 64 << 20)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    groups({"outer/memory.stat": "", "outer/memory.current": 1 << 20, **limits})
    assert (processors.memory(), processors.memory_left()) == (allotted, left)


@pytest.mark.parametrize(
    "text, right",
    [(None, None), ("", 0), ("0", 1), ("1,3", 2), ("GPU-8a, GPU-9b,MIG-1", 3), ("0,-1,1", 1), ("NoDevFiles", 0)],
)
def test_gpus_are_those_that_cuda_sees(monkeypatch, text, right):
    monkeypatch.setenv(processors.GPUS, text) if text is not None else monkeypatch.delenv(processors.GPUS, False)
    assert processors.gpus() == right
    row = next(row for row in doctor._devices() if row[0] == "GPU")
    assert (f"{right} allotted" in row[2]) is (right is not None)


def test_workers_of_a_machine_with_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (plan.local_workers("cuda"), plan.local_workers("cuda", 3)) == (2, 6)


@pytest.mark.parametrize("allotted", [1, 5])
def test_workers_are_as_many_as_processors_are_allotted(allotted, monkeypatch):
    monkeypatch.setattr(processors, "allotted", lambda: allotted)
    monkeypatch.setattr(processors, "memory", lambda: 3 << 30)
    monkeypatch.setattr(processors, "installed_memory", lambda: 8 << 30)
    assert plan.local_workers("cpu") == allotted
    given = {}

    def init(**options):
        given.update(options)
        raise RuntimeError("enough")

    monkeypatch.setattr(cluster.ray, "init", init)
    with pytest.raises(RuntimeError, match="enough"), cluster.cluster():
        pass
    assert given["num_cpus"] == allotted
    assert given["_memory"] + given["object_store_memory"] == 3 << 30


def test_doctor_says_what_is_allotted(monkeypatch):
    monkeypatch.setattr(processors, "allotted", lambda: 3)
    monkeypatch.setattr(processors, "installed", lambda: 8)
    monkeypatch.setattr(processors, "memory", lambda: 3 << 30)
    monkeypatch.setattr(processors, "installed_memory", lambda: 8 << 30)
    rows = list(doctor._python())
    assert ("cores", "ok", "3 allotted, of 8") in rows
    assert ("memory", "ok", "3.0 GiB allotted, of 8.0 GiB") in rows


def test_plan_counts_the_processors_that_it_may_run_on(tmp_path):
    first = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {first})
    try:
        found = memsweep_("plan", "smoke", "--results", tmp_path, "--format", "jsonl")
    finally:
        os.sched_setaffinity(0, before)
    assert json.loads(found.stdout)["workers"] == 1, found.stderr
