"""A sweep as a job of SLURM: writes the job's script into the results folder, and submits it.

The script runs `memsweep launch` on the nodes of the job. Before the time limit it ends the launch in order, and queues
the job again while trials are missing and the launch came further. `docs/how-to/slurm.md` shows its use.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template

from memsweep.results.storage.location import Location, local_folder, location
from memsweep.results.storage.parts import write_whole
from memsweep.run.jobs import ClusterError
from memsweep.run.launch_options import LaunchOptions
from memsweep.spec.config import ConfigError
from memsweep.spec.sweep import Sweep, SweepError

FOLDER = "slurm"
"""Folder of scripts and logs, in the results folder."""
GRACE_SECONDS = 120.0
"""Time before the limit at which the launch is ended, to save what is in training."""
JOIN_SECONDS = 120
"""Longest wait for all nodes of a job before its launch begins."""
RESTARTS = 50
"""Most times that a job queues itself again."""
TIME = re.compile(r"\d+(:\d\d){0,2}|\d+-\d\d?(:\d\d){0,2}")
NAME = re.compile(r"[\w.+,/@-]+")

LOCAL = """\
"$${python[@]}" -m memsweep $launch "$${retry[@]}" --format jsonl > "$$row" &
launch=$$!
"""
ON_NODES = """\
# one cluster for this job alone: its ports follow from the job's number, its token is in a file that only you can read
unset RAY_AUTH_TOKEN
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$$here/.token-$$SLURM_JOB_ID"
(umask 077; od -An -tx1 -N32 /dev/urandom | tr -d ' \\n' > "$$RAY_AUTH_TOKEN_PATH")
port=$$((20000 + SLURM_JOB_ID % 10000))
head=$$("$${python[@]}" -m memsweep.run.slurm_node address) || exit 1
srun --overlap --ntasks-per-node=1 --cpus-per-task="$$SLURM_CPUS_PER_TASK" \\
  "$${python[@]}" -m memsweep.run.slurm_node start "$$head" "$$port" &> "$$here/ray-$$SLURM_JOB_ID.log" &
ray=$$!
until (exec 3<> "/dev/tcp/$$head/$$port") 2> /dev/null; do
  kill -0 $$ray 2> /dev/null || { say "Ray has ended on the first node, $$head:$$port"; exit 1; }
  sleep 0.5
done
nodes=$$("$${python[@]}" -m memsweep.run.slurm_node wait "$$head" "$$port" "$$SLURM_NNODES" $wait_seconds | tail -n 1)
say "$${nodes:-0} of $$SLURM_NNODES nodes run Ray"
if [ "$${nodes:-0}" -lt $min_nodes ]; then
  say "not launched: fewer than --min-nodes $min_nodes after $wait_seconds s; see $$here/ray-$$SLURM_JOB_ID.log"
  rm -f "$$RAY_AUTH_TOKEN_PATH"; wait $$ray 2> /dev/null
  exit 1
fi
"$${python[@]}" -m memsweep $launch "$${retry[@]}" --address "$$head:$$port" --workers $workers \\
  --format jsonl > "$$row" &
launch=$$!
"""
AFTERWARDS = """\
rm -f "$RAY_AUTH_TOKEN_PATH"  # without it, the nodes end this job's Ray; other jobs on these nodes keep theirs
wait $ray 2> /dev/null
"""
SCRIPT = Template("""\
#!/bin/bash
# Written by: $command
# It may be edited, and submitted again with sbatch.
$directives
say() { echo "$$(date '+%F %T') $$*"; }
here=$folder
row="$$here/.row-$$SLURM_JOB_ID"
trap 'rm -f "$$row" "$$here/.token-$$SLURM_JOB_ID"' EXIT
restarts=$${SLURM_RESTART_COUNT:-0}
say "job $$SLURM_JOB_ID on $$SLURM_JOB_NODELIST, queued again $$restarts times"
python=($python)
$setup
retry=($retry)
[ "$$restarts" = 0 ] || retry=()  # failed trials are retried once

# USR1 comes $seconds s before the time limit; TERM at scancel, which ends the job for good
launch=''
stop() { say "$$*: storing and saving"; if [ -n "$$launch" ]; then kill -TERM "$$launch"; else exit 130; fi; }
trap 'stop "time is short"' USR1
trap 'stop "ended by SLURM"' TERM
$start
# at pre-emption, SLURM sends TERM to the steps of a job and not to its shell: this step hands it on
srun --nodes=1 --ntasks=1 --nodelist="$$SLURMD_NODENAME" --overlap \\
  bash -c 'trap "kill -TERM $$1; exit" TERM; sleep infinity & wait' - "$$launch" &> /dev/null &
relay=$$!
wait $$launch; code=$$?
while kill -0 $$launch 2> /dev/null; do wait $$launch; code=$$?; done  # a trap ends the first wait
say "the launch has ended with $$code"
kill $$relay 2> /dev/null
$afterwards
count() { sed -n "s/.*\\"$$1\\": \\(-\\?[0-9]*\\).*/\\1/p" "$$row"; }
missing=$$(count missing) gained=$$(count gained_steps)
if [ $$code = 130 ] && [ "$${missing:-0}" -gt 0 ]; then
  if ! scontrol show job "$$SLURM_JOB_ID" | grep -q JobState=RUNNING; then
    say "$$missing trials are missing; the job was cancelled: not queued again"
  elif [ "$${gained:-0}" -le 0 ]; then
    say "$$missing trials are missing, but nothing was gained since the last start: not queued again"
  elif [ "$$restarts" -ge $restarts ]; then
    say "$$missing trials are missing after $$restarts restarts: not queued again"
  else
    say "$$missing trials are missing, $$gained steps were gained: queued again"
    scontrol requeue "$$SLURM_JOB_ID"
  fi
fi
exit $$code
""")


@dataclass(frozen=True)
class Request:
    """The resources of a job.  Raises ConfigError for a wrong value."""

    nodes: int = 1
    cpus_per_task: int = 1  # of each node
    gpus_per_node: int = 0
    memory: str | None = None  # of each node, as sbatch takes it; None: the partition's default
    time: str | None = None  # limit; None: the partition's default
    partition: str | None = None
    account: str | None = None
    array: int | None = None  # number of jobs, each of which runs a part of the trials
    grace_seconds: float = GRACE_SECONDS  # before the time limit, at which the launch is ended
    setup: str = ""  # lines of a shell that make memsweep runnable
    min_nodes: int = 1  # on which Ray must run for the launch to begin

    def __post_init__(self) -> None:
        problems = [
            f"--{name} {value!r}: must be {rule}."
            for name, value, form, rule in (
                ("time", self.time, TIME, "a time as sbatch takes it: 90 (minutes), 4:00:00 or 2-12:00:00"),
                ("mem", self.memory, re.compile(r"\d+[KMGT]?"), "a size as sbatch takes it, such as 16G"),
                ("partition", self.partition, NAME, "a name without spaces"),
                ("account", self.account, NAME, "a name without spaces"),
            )
            if value is not None and not form.fullmatch(value)
        ]
        if self.time is not None and not problems and _seconds(self.time) <= self.grace_seconds:
            problems.append(
                f"--time {self.time}: {_seconds(self.time)} s, must be more than --grace {self.grace_seconds:g} s: "
                "else the launch ends as it starts."
            )
        if not 1 <= self.min_nodes <= self.nodes:
            problems.append(f"--min-nodes {self.min_nodes}: must be at least 1 and at most --nodes {self.nodes}.")
        if problems:
            raise ConfigError(problems)

    def directives(self, name: str, log: str) -> list[str]:
        """Returns the lines of a script that request these resources.  name: of the job.  log: path, with %j."""
        values = {
            "job-name": name,
            "chdir": f'"{Path.cwd()}"',
            "output": f'"{log}"',
            "nodes": self.nodes,
            "ntasks-per-node": 1,
            "cpus-per-task": self.cpus_per_task,
            "gpus-per-node": self.gpus_per_node or None,
            "mem": self.memory,
            "time": self.time,
            "partition": self.partition,
            "account": self.account,
            "array": self.array and f"1-{self.array}",
            "signal": f"B:USR1@{self.grace_seconds:.0f}",
            "open-mode": "append",
        }
        lines = [f"#SBATCH --{option}={value}" for option, value in values.items() if value is not None]
        return [*lines, "#SBATCH --requeue"]


def script(
    sweeps: Sequence[str], results: str, options: LaunchOptions, request: Request, overrides: Sequence[str] = ()
) -> str:
    """Returns the script of a job that launches these sweeps.  overrides: values of --set.  Raises ClusterError."""
    place = location(results)
    home = folder(place)
    if any(character in f"{home}{Path.cwd()}" for character in '"\n\\$`'):
        raise ClusterError(
            f"{home} or {Path.cwd()}: a job's options can't hold such a path. Use one without \" \\ $ `."
        )
    is_local = request.nodes == 1
    log_name = "%A_%a" if request.array else "%j"
    part = "slurm" if request.array else options.part
    words = ["launch", *sweeps, "--results", str(place), *(word for axis in overrides for word in ("--set", axis))]
    words += replace(options, retry=False, part=None, workers=options.workers if is_local else None).words()
    words += ["--part", str(part)] if part else []
    a_node = request.gpus_per_node * options.workers_per_gpu or request.cpus_per_task
    workers = options.workers or f"$((SLURM_NNODES * {a_node}))"
    return SCRIPT.substitute(
        command=shlex.join(["memsweep", *sys.argv[1:]]).replace("\n", " "),
        directives="\n".join(
            request.directives(f"memsweep-{Path(sweeps[0]).stem}", f"{str(home).replace('%', '%%')}/{log_name}.log")
        ),
        folder=shlex.quote(str(home)),
        python=shlex.quote(sys.executable),
        setup=request.setup.strip() or "# no --setup: the Python that wrote this script",
        retry="--retry" if options.retry else "",
        start=Template(LOCAL if is_local else ON_NODES).substitute(
            launch=shlex.join(words), workers=workers, min_nodes=request.min_nodes, wait_seconds=JOIN_SECONDS
        ),
        seconds=f"{request.grace_seconds:.0f}",
        restarts=RESTARTS,
        afterwards="" if is_local else AFTERWARDS,
    )


def folder(place: Location) -> Path:
    """Returns the folder of scripts and logs: in the results folder; of an object store, in the user's state folder."""
    return local_folder(place) / FOLDER


def submit(text: str, name: str, results: str) -> tuple[str, Path]:
    """Writes a script, and submits it; returns (job id, path of the script).  Raises ClusterError.

    name: of the script, without time and suffix.
    """
    if shutil.which("sbatch") is None:
        raise ClusterError(
            "sbatch is not installed here. Run this command on a login node of the cluster; --print shows the script."
        )
    place = location(results)
    path = folder(place) / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.sh"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())
    ended = subprocess.run(["sbatch", "--parsable", str(path)], capture_output=True, text=True)
    if ended.returncode:
        reason = ended.stderr.strip().removeprefix("sbatch: error: ").splitlines() or ["no reason is given"]
        raise ClusterError(f"{path}: sbatch refuses the job: {reason[0]}")
    return ended.stdout.strip().partition(";")[0], path


def _seconds(limit: str) -> int:
    """Returns a time limit of sbatch in seconds: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    days, dash, rest = limit.rpartition("-")
    numbers = [int(number) for number in rest.split(":")]
    if dash:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, [*numbers, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def check(sweeps: Sequence[Sweep], request: Request) -> None:
    """Raises SweepError for a search in a job array."""
    if request.array and (names := [sweep.name for sweep in sweeps if sweep.search]):
        raise SweepError(
            [f"--array {request.array}: {', '.join(names)} is a search, whose rounds need all results: omit --array."]
        )


def commands(path: Path, job: str) -> str:
    """Returns the commands that show, follow and end a job.  path: of its script."""
    return f"squeue --job {job}, tail -F {path.parent}/{job}*.log, scancel {job}"
