"""What `memsweep slurm` writes and refuses, without SLURM; tests/slurm runs the jobs."""

import os
import shlex
import socket
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from memsweep.run import slurm
from memsweep.spec.config import ConfigError
from tests.commands import own_folder, refused, run, snapshot  # noqa: F401


def directives(text):
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH ")]
    return dict(line.partition("=")[::2] for line in lines)


def test_print_shows_a_script_and_writes_nothing(run, tmp_path):  # noqa: F811
    (tmp_path / "setup.sh").write_text("module load python\n")
    words = (
        "smoke --set seeds=0:20 --nodes 3 --gpus-per-node 2 --cpus-per-task 4 --mem 16G --time 4:00:00 --partition p"
    )
    before = snapshot()
    more = ("--account", "a", "--setup", "setup.sh", "--print", "--results", "my results")
    code, text, _ = run("slurm", *words.split(), *more)
    assert code == 0 and snapshot() == before
    expected = {"nodes": "3", "ntasks-per-node": "1", "cpus-per-task": "4", "gpus-per-node": "2", "mem": "16G"}
    expected |= {"time": "4:00:00", "partition": "p", "account": "a", "signal": "B:USR1@120", "requeue": ""}
    assert directives(text).items() >= expected.items() and "array" not in directives(text)
    assert "\nmodule load python\n" in text and "--workers $((SLURM_NNODES * 2))" in text
    launch = next(line for line in text.splitlines() if "-m memsweep launch" in line)
    assert f"--results {shlex.quote(f'{tmp_path}/my results')}" in launch and "--set seeds=0:20" in launch
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_workers_share_the_gpus_of_a_job(run):  # noqa: F811
    words = "smoke --nodes 3 --gpus-per-node 2 --cpus-per-task 8 --device cuda --workers-per-gpu 4 --print"
    text = run("slurm", *words.split())[1]
    assert "--workers $((SLURM_NNODES * 8))" in text and "--workers-per-gpu 4" in text


def test_a_job_array_runs_parts_on_one_node_each(run):  # noqa: F811
    _, text, _ = run("slurm", "smoke", "--array", 4, "--retry", "--print")
    assert directives(text)["array"] == "1-4" and directives(text)["output"].endswith('slurm/%A_%a.log"')
    assert "--part slurm" in text and "slurm_node" not in text and "\nretry=(--retry)\n" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["smoke", "--time", "soon"], "--time 'soon': must be a time"),
        (["smoke", "--time", "1:30"], "--time 1:30: 90 s, must be more than --grace 120 s"),
        (["smoke", "--partition", "a b"], "--partition 'a b': must be a name"),
        (["smoke", "--mem", "much"], "--mem 'much': must be a size"),
        (["smoke", "--nodes", "2", "--min-nodes", "3"], "--min-nodes 3: must be at least 1 and at most --nodes 2"),
        (["capacity_search", "--array", "2"], "capacity_search is a search, whose rounds need all results"),
        (["smoke"], "sbatch is not installed here"),
    ],
)
def test_what_can_not_run_is_refused_before_anything_is_written(refused, monkeypatch, words, message):  # noqa: F811
    monkeypatch.setenv("PATH", "/nowhere")
    before = snapshot()
    assert message in refused("slurm", *words)
    assert snapshot() == before


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 180), ("3:10", 190), ("1:00:05", 3605), ("2-0", 172800), ("1-2:30", 95400), ("1-00:00:01", 86401)],
)
def test_time_limits_are_read_as_sbatch_reads_them(text, seconds):
    slurm.Request(time=text, grace_seconds=seconds - 1)
    with pytest.raises(ConfigError, match=f"{seconds} s"):
        slurm.Request(time=text, grace_seconds=seconds)


def test_a_refused_job_is_one_message_and_an_accepted_one_says_how_to_follow_it(run, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    stub = Path("sbatch")
    for lines, expected in (("echo 12", 0), ("echo 'sbatch: error: no such partition' >&2; exit 1", 2)):
        stub.write_text(f"#!/bin/sh\n{lines}\n")
        stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
        code, out, err = run("slurm", "smoke", "--results", "r")
        assert code == expected
        assert (
            (out == "12\n" and "scancel 12" in err) if code == 0 else "sbatch refuses the job: no such partition" in err
        )
    assert list(Path("r/slurm").glob("smoke-*.sh"))


STUBS = {
    "python": """case "$*" in
  *"slurm_node address") echo 127.0.0.1;;
  *"slurm_node wait 127.0.0.1 "*" 2 120") echo Ray speaks; echo 1;;
  *" launch "*) touch launched; echo '{"missing": 0}';;
esac""",
    "srun": 'while [ -e "$RAY_AUTH_TOKEN_PATH" ]; do sleep 0.05; done',  # as Ray's, until the token is deleted
}


def listening():
    """The number of a job whose port is free, and a socket that listens there, as the first node's Ray."""
    for job in range(1, 10000, 37):
        with suppress(OSError):
            return job, socket.create_server(("127.0.0.1", 20000 + job))
    raise AssertionError("no port is free")


@pytest.mark.parametrize(("fewest", "code"), [(1, 0), (2, 1)])
def test_a_job_begins_with_the_nodes_that_have_joined_or_ends(run, tmp_path, fewest, code):  # noqa: F811
    for name, lines in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "setup.sh").write_text(f"python=({tmp_path}/python)\n")
    options = ("--nodes", 2, "--min-nodes", fewest, "--setup", "setup.sh", "--results", "r", "--print")
    _, text, _ = run("slurm", "smoke", *options)
    Path("r/slurm").mkdir(parents=True)
    Path("job.sh").write_text(text)
    job, head = listening()
    with head:
        variables = {"JOB_ID": job, "JOB_NODELIST": "n[1-2]", "NNODES": 2, "CPUS_PER_TASK": 1}
        environment = {**os.environ, **{f"SLURM_{name}": str(value) for name, value in variables.items()}}
        environment |= {"SLURMD_NODENAME": "n1", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        ended = subprocess.run(["bash", "job.sh"], text=True, capture_output=True, env=environment, timeout=60)
    assert (ended.returncode, Path("launched").exists()) == (code, code == 0), ended.stderr
    assert "1 of 2 nodes run Ray" in ended.stdout
    assert ("not launched: fewer than --min-nodes 2 after 120 s" in ended.stdout) == (code == 1)
    assert [path.name for path in Path("r/slurm").iterdir()] == [f"ray-{job}.log"]
