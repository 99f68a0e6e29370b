"""Runs short tasks on the machines of a launch: measures programs, and reads what dead workers wrote."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from memsweep.run import cluster  # noqa: F401  first, because it sets variables that Ray reads on import

# isort: split
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from memsweep.data import given
from memsweep.results.storage.location import Location
from memsweep.run.packing import Pack
from memsweep.run.policy import timings
from memsweep.run.policy.timings import MOST_TRIALS, Calibration
from memsweep.run.recovery import hang_guard
from memsweep.run.recovery.hang_guard import LastWords
from memsweep.spec import contents
from memsweep.spec.config import TrialConfig
from memsweep.spec.contents import content_of, has_content, is_given

CALIBRATION_SECONDS = 60.0
"""Longest wait for the next measured program."""
ANSWER_SECONDS = 10.0
"""Time limit for machines to return the traceback of a dead worker."""
READ_SECONDS = 120.0
"""Time limit for machines to hash the user's files, and to look for given data."""
NAMED = 3
"""Most machines listed in a message."""
PREEMPTED = 3
"""`DeathReason` in `ray.nodes()` of a machine that its provider took away with notice (AUTOSCALER_DRAIN_PREEMPTED)."""


def last_words(results: Location, pack: Pack) -> LastWords:
    """Returns the traceback of a pack's dead worker, from the results folder or any machine; within `cluster()`."""
    if isinstance(results, Path):
        return hang_guard.last_words(results, pack.pack_id)
    read = ray.remote(hang_guard.last_words)
    strategies = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
    options = [{"num_cpus": 0, "max_retries": 0, "scheduling_strategy": strategy} for strategy in strategies]
    tasks = [read.options(**option).remote(results, pack.pack_id) for option in options]
    references, _ = ray.wait(tasks, num_returns=len(tasks), timeout=ANSWER_SECONDS)
    answers = filter(None, map(_result, references))
    return max(answers, key=lambda words: len(words.text), default=LastWords(False, ""))


def unreadable(trials: Iterable[TrialConfig], *, is_joined: bool = False) -> list[str]:
    """Returns a sentence per file or given data that a machine lacks, or has with other content; within `cluster()`.

    is_joined: whether the cluster was there before the launch, perhaps on another machine.
    """
    contents_of = {trial.data.task: trial.data.content for trial in trials if has_content(trial.data.task)}
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if not contents_of or (len(nodes) < 2 and not is_joined):
        return []
    results, folder = given.folder(), os.getcwd()

    def readable(task: str, content: str) -> bool:
        contents.start_in(folder)
        return given.is_readable(results, content) if is_given(task) else content_of(task) == content

    remote = ray.remote(readable)
    answers = {
        (task, node["NodeID"], node["NodeManagerHostname"]): remote.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(task, content)
        for task, content in contents_of.items()
        for node in nodes
    }
    ray.wait(list(answers.values()), num_returns=len(answers), timeout=READ_SECONDS)
    wrong: dict[str, set[str]] = {}
    for (task, _, host), reference in answers.items():
        if not _result(reference):
            wrong.setdefault(task, set()).add(host)
    return [
        f"data.task = {task!r}: {', '.join(sorted(hosts)[:NAMED])} cannot read "
        + (
            f"{given.path_in(results, contents_of[task])}. Use --results in a folder that all machines share, under "
            "the same absolute path, or in an object store."
            if is_given(task)
            else "it with the content that it has here. Put it into a folder that all machines share, under the same "
            "absolute path."
        )
        for task, hosts in wrong.items()
    ]


def was_preempted(node_id: str) -> bool:
    """Returns whether the provider took this machine away with notice; within `cluster()`."""
    return any(node["NodeID"] == node_id and node.get("DeathReason") == PREEMPTED for node in ray.nodes())


def calibrate(
    programs: Sequence[Sequence[TrialConfig]],
    device: str,
    patience_seconds: float,
    beside: bool = False,
    is_joined: bool = False,
) -> list[Calibration | None]:
    """Returns measurements of programs: those that a machine keeps, else new ones of workers; within `cluster()`.

    None for programs that end or hang their worker. A launch's own cluster of one machine starts no worker for what
    this machine keeps; elsewhere each worker reads what its machine keeps.
    patience_seconds: without a result, after which workers count as hung.
    beside: whether the workers of packs occupy the devices and are idle; on GPUs nothing is measured then.
    is_joined: whether the cluster was there before the launch, perhaps on another machine.
    """
    if beside and device == "cuda":
        return [None] * len(programs)
    is_here = not is_joined and sum(node["Alive"] for node in ray.nodes()) == 1
    kept = [timings.find(trials, device) if is_here else None for trials in programs]
    results, folder = given.folder(), os.getcwd()

    def measure(text: str) -> Calibration:
        given.read_from(results)
        contents.start_in(folder)
        return timings.calibrated(Pack.from_json(text).trials, device)

    remote = ray.remote(measure).options(max_retries=0, **({"num_cpus": 0} if beside else _resources(device)))
    tasks = {
        number: remote.remote(Pack(tuple(trials[:MOST_TRIALS]), 1).to_json())
        for number, trials in enumerate(programs)
        if kept[number] is None
    }
    complete: list[Any] = []
    pending = list(tasks.values())
    while pending:
        done, pending = ray.wait(pending, num_returns=1, timeout=min(CALIBRATION_SECONDS, patience_seconds))
        complete += done
        if not done:  # workers hang
            for reference in pending:
                ray.cancel(reference, force=True)
            break
    # the packs of programs without a result will report the error
    new = {number: _result(reference) if reference in complete else None for number, reference in tasks.items()}
    return [new.get(number, calibration) for number, calibration in enumerate(kept)]


def _result(reference: Any) -> Any:
    """Returns the result of a task; None if its worker died."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError:
        return None


def _resources(device: str) -> dict[str, int]:
    return {"num_cpus": 1, "num_gpus": 1} if device == "cuda" else {"num_cpus": 1}
