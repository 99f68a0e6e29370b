"""A sweep as a job of Kubernetes: the manifest of a RayJob for KubeRay 1.5.1 and newer, and `kubectl apply`.

KubeRay starts a Ray cluster for the job alone, runs `memsweep launch` on its head, and deletes it afterwards. Workers
come and go with the packs. `docs/how-to/kubernetes.md` shows its use.
"""

from __future__ import annotations

import math
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from memsweep.results.storage.location import ObjectPath, location
from memsweep.run.jobs import ClusterError
from memsweep.run.launch_options import LaunchOptions
from memsweep.spec.config import ConfigError

RETRIES = 5
"""Default number of new clusters after failures."""
MEMORY = "4Gi"
"""Memory of the head, and the default for a worker."""
HEAD_CPUS = 2
TTL_SECONDS = 300
"""Time after the job's end at which its cluster is deleted, with the log."""
LABEL = "memsweep-job"
"""Label of the job's Pods; its value is the job's name."""
LONGEST_NAME = 47
"""Longest name of a RayJob, in characters: KubeRay derives longer names from it."""
SUBMITTER = "ray-job-submitter"
"""The container that shows the launch's output, named by KubeRay."""
PART = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
LABEL_NAME = r"[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?"
FORMS = {
    "image": (r"[a-z0-9][\w.:/@-]*", "the name of an image, such as registry/memsweep:0.1.0"),
    "memory-per-worker": (r"[1-9]\d*[MGT]i?", "a size as Kubernetes takes it, such as 4Gi"),
    "node-selector": (rf"({PART}(\.{PART})*/)?{LABEL_NAME}=({LABEL_NAME})?", "a label KEY=VALUE of the nodes"),
    "secret": (rf"{PART}(\.{PART})*", "the name of a Secret: lower-case letters, digits, - and ."),
    "service-account": (rf"{PART}(\.{PART})*", "the name of a ServiceAccount: lower-case letters, digits, - and ."),
    "namespace": (PART, "the name of a namespace: lower-case letters, digits and -"),
    "name": (f"(?=.{{1,{LONGEST_NAME}}}$)[a-z]([-a-z0-9]*[a-z0-9])?", f"at most {LONGEST_NAME} lower-case letters, "
             "digits and -, with a letter first"),
}  # fmt: skip
"""Option -> form of its values, and the rule."""
PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
"""Words that no shell changes: KubeRay and Ray pass the command of a job through two of them."""


@dataclass(frozen=True)
class Request:
    """The resources of a job, and its place in Kubernetes.  Raises ConfigError for a wrong value."""

    image: str  # with memsweep and the user's modules
    workers: int = 1  # most at a time
    gpus_per_worker: int = 0
    cpus_per_worker: int | None = None  # None: one for each GPU, at least one
    memory_per_worker: str = MEMORY
    retries: int = RETRIES  # new clusters after failures, at most
    deadline_seconds: float | None = None  # after which the job is ended for good
    node_selector: tuple[str, ...] = ()  # labels KEY=VALUE of the nodes for workers
    secret: str | None = None  # whose keys are environment variables of all containers
    service_account: str | None = None
    namespace: str | None = None  # None: that of kubectl's context
    name: str | None = None  # of the job; None: a new one

    def __post_init__(self) -> None:
        given = [
            (option, value)
            for option in FORMS
            for value in _values(getattr(self, option.replace("-", "_")))
            if not re.fullmatch(FORMS[option][0], value, re.ASCII)
        ]
        problems = [f"--{option} {value!r}: must be {FORMS[option][1]}." for option, value in given]
        if self.cpus < self.gpus_per_worker:
            problems.append(
                f"--cpus-per-worker {self.cpus}: must be at least --gpus-per-worker {self.gpus_per_worker}: "
                "each GPU needs a processor."
            )
        if self.deadline_seconds is not None and self.deadline_seconds < 1:
            problems.append(f"--deadline {self.deadline_seconds:g} s: must be 1 s or more.")
        if problems:
            raise ConfigError(problems)

    @property
    def cpus(self) -> int:
        """Returns the number of processors of a worker."""
        return self.cpus_per_worker or max(1, self.gpus_per_worker)

    @property
    def packs(self) -> int:
        """Returns the number of packs that train at the same time: one for each GPU, or for each processor."""
        return self.workers * (self.gpus_per_worker or self.cpus)


def manifest(
    sweeps: Sequence[str], results: str, options: LaunchOptions, request: Request, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns the RayJob that launches these sweeps.  overrides: values of --set.  Raises ClusterError, ConfigError."""
    name = request.name or _new_name(sweeps[0])
    resources: dict[str, Any] = {"cpu": request.cpus, "memory": request.memory_per_worker}
    if request.gpus_per_worker:
        resources["nvidia.com/gpu"] = request.gpus_per_worker
    workers = _pod(name, "ray-worker", request, resources)
    if request.node_selector:
        workers["spec"]["nodeSelector"] = dict(_pair(label) for label in request.node_selector)
    deadline = request.deadline_seconds
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name} | ({"namespace": request.namespace} if request.namespace else {}),
        "spec": {
            "submissionMode": "SidecarMode",  # no Pod, and no network, between the submitter and the head
            "entrypoint": _entry_point(sweeps, results, options, request, overrides),
            "backoffLimit": request.retries,
            **({"activeDeadlineSeconds": math.ceil(deadline)} if deadline else {}),
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "rayClusterSpec": {
                "rayVersion": version("ray"),
                "authOptions": {"mode": "token"},
                "enableInTreeAutoscaling": True,
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},  # no pack runs beside the driver
                    "template": _pod(name, "ray-head", request, {"cpu": HEAD_CPUS, "memory": MEMORY}),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "minReplicas": 0,
                        "maxReplicas": request.workers,
                        "rayStartParams": {},
                        "template": workers,
                    }
                ],
            },
        },
    }


def _pod(name: str, container: str, request: Request, resources: dict[str, Any]) -> dict[str, Any]:
    """Returns the template of a Pod with one container, to which these resources are allotted."""
    content: dict[str, Any] = {"name": container, "image": request.image}
    content["env"] = [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}]
    if request.secret:
        content["envFrom"] = [{"secretRef": {"name": request.secret}}]
    content["resources"] = {"requests": dict(resources), "limits": dict(resources)}
    account = {"serviceAccountName": request.service_account} if request.service_account else {}
    return {"metadata": {"labels": {LABEL: name}}, "spec": {**account, "containers": [content]}}


def _entry_point(
    sweeps: Sequence[str], results: str, options: LaunchOptions, request: Request, overrides: Sequence[str]
) -> str:
    """Returns the command of the job.  Raises ClusterError for results or words that it can't hold."""
    place = location(results)
    if not isinstance(place, ObjectPath):
        raise ClusterError(
            f"--results {results}: the Pods of a job share no folder. Use s3://bucket/prefix or gs://bucket/prefix."
        )
    launch = replace(
        options,
        address="auto",
        workers=request.packs,
        device="cuda" if request.gpus_per_worker else "cpu",
        tracking_uri=options.tracking_uri or "none",  # else a database in the head's Pod, which is deleted
    )
    words = ["python", "-m", "memsweep", "launch", *sweeps, "--results", str(place)]
    words += [word for axis in overrides for word in ("--set", axis)] + launch.words()
    for word in words:
        if not PLAIN.fullmatch(word):
            raise ClusterError(
                f"{word!r}: the command of a job can hold only words of letters, digits and @ % + = : , . / - _. "
                "Write other values into the sweep file; set the address of an object store in a variable of --secret."
            )
    return " ".join([*words, "--accept-failed"])  # a failed trial fails again on a new cluster


def _new_name(sweep: str) -> str:
    """Returns a new name for each job: Kubernetes runs no job again under the same name."""
    suffix = secrets.token_hex(4)
    stem = re.sub("[^a-z0-9]+", "-", Path(sweep).stem.lower())
    return f"memsweep-{stem}"[: LONGEST_NAME - len(suffix) - 1].rstrip("-") + f"-{suffix}"


def text(job: dict[str, Any]) -> str:
    """Returns a manifest as YAML, below a comment with the command that wrote it."""
    command = shlex.join(["memsweep", *sys.argv[1:]]).replace("\n", " ")
    return f"# Written by: {command}\n{yaml.safe_dump(job, sort_keys=False, width=1000)}"


def apply(job: dict[str, Any]) -> None:
    """Hands a manifest to `kubectl apply`.  Raises ClusterError."""
    if shutil.which("kubectl") is None:
        raise ClusterError(
            "kubectl is not installed. Install it, or omit --apply, and apply the printed manifest on another machine."
        )
    ended = subprocess.run(["kubectl", "apply", "-f", "-"], input=text(job), capture_output=True, text=True)
    if ended.returncode:
        reason = ended.stderr.strip().splitlines() or ["no reason is given"]
        raise ClusterError(f"{job['metadata']['name']}: kubectl refuses the job: {reason[0]}")


def commands(job: dict[str, Any]) -> str:
    """Returns the shell commands that show the state of a job, follow its log and delete it."""
    name, namespace = job["metadata"]["name"], job["metadata"].get("namespace")
    kubectl = f"kubectl --namespace {namespace}" if namespace else "kubectl"
    head = f"--selector {LABEL}={name},ray.io/node-type=head"
    return (
        f"{kubectl} get rayjob {name}, {kubectl} logs --follow {head} --container {SUBMITTER}, "
        f"{kubectl} delete rayjob {name}"
    )


def _values(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Returns the texts of an option, which may be absent, one text or several."""
    return (value,) if isinstance(value, str) else value or ()


def _pair(label: str) -> tuple[str, str]:
    """Returns key and value of a label KEY=VALUE."""
    key, _, value = label.partition("=")
    return key, value
