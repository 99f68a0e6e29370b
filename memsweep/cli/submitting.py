"""The verbs that hand a launch to the scheduler of a cluster: Ray's jobs, SLURM, and Kubernetes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from memsweep.cli import DONE, SOME_FAILED
from memsweep.cli.arguments import (
    AddOption,
    BudgetOption,
    ChangedOption,
    CheckpointOption,
    Compile,
    CompileOption,
    DeviceOption,
    Keep,
    KeepOption,
    KeepStepsOption,
    LimitOption,
    MembersOption,
    PatienceOption,
    ResultsOption,
    RetryOption,
    SetOption,
    SweepsArgument,
    TrackingOption,
    WorkersOption,
    WorkersPerGpuOption,
    YesOption,
    confirmed,
    launch_options,
    load_all,
    parsed_seconds,
)
from memsweep.cli.printing import say

CpusOption = Annotated[
    int | None, typer.Option(min=1, help="Processors of each worker; default: one for each GPU, at least one.")
]
NodeSelectorOption = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Label of the nodes for workers. Repeatable.")
]
SecretOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Secret whose keys are variables of the job: credentials.")
]


def submit(
    sweeps: SweepsArgument,
    address: Annotated[str, typer.Option(metavar="http://HEAD:8265", help="Address of a running cluster's dashboard.")],
    results: ResultsOption = "results",
    overrides: SetOption = None,
    members: MembersOption = None,
    limit: LimitOption = None,
    budget: BudgetOption = None,
    patience: PatienceOption = "10m",
    checkpoint: CheckpointOption = "30s",
    workers: WorkersOption = None,
    workers_per_gpu: WorkersPerGpuOption = 1,
    device: DeviceOption = None,
    compiling: CompileOption = Compile.AUTO,
    retry: RetryOption = False,
    yes: YesOption = False,
    add: AddOption = False,
    changed: ChangedOption = None,
    keep: KeepOption = Keep.NOTHING,
    keep_steps: KeepStepsOption = None,
    tracking_uri: TrackingOption = None,
    follow: Annotated[bool, typer.Option(help="Show the job's log; Ctrl-C does not stop the job.")] = True,
) -> None:
    """Run a launch as a job on a running Ray cluster, with the files of the current folder.

    The job does not need this terminal. All machines must be able to access the results. Exit code 1 if the job fails.

    Example: memsweep submit generalization --address http://127.0.0.1:8265 --results s3://bucket/results --device cuda
    """
    from memsweep.run import jobs

    _check_tracking(tracking_uri)
    options = launch_options(
        limit=limit, members=members, workers=workers, workers_per_gpu=workers_per_gpu, device=device,
        compiling=compiling, retry=retry, add=add, changed=changed, keep=keep, keep_steps=keep_steps, budget=budget,
        patience=patience, checkpoint=checkpoint, tracking_uri=tracking_uri,
    )  # fmt: skip
    options = replace(options, yes=confirmed(load_all(sweeps, overrides), yes))
    job = jobs.submit(sweeps, address, results, options, say, overrides=overrides or ())
    print(job.name, flush=True)
    say(f"{job.name} runs on {address}. To follow or stop it: {job.commands}")
    if not follow:
        return
    try:
        succeeds = job.follow(lambda text: print(text, end="", file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        say(f"\n{job.name} still runs. To follow or stop it: {job.commands}")
        return
    sys.exit(DONE if succeeds else SOME_FAILED)


def _check_tracking(uri: str | None) -> None:
    """Raises typer.BadParameter for a password in MLflow's URI, TrackingError for an invalid URI."""
    from memsweep.results.mlflow.background import NO_TRACKING, checked, shown

    if uri and shown(uri) != uri:
        raise typer.BadParameter(
            "holds a password, which everyone who reads the job's command would see. "
            "Set MLFLOW_TRACKING_URI on the cluster instead.",
            param_hint="--tracking-uri",
        )
    if uri and uri != NO_TRACKING:
        checked(uri)


def slurm(
    sweeps: SweepsArgument,
    results: ResultsOption = "results",
    overrides: SetOption = None,
    nodes: Annotated[int, typer.Option(min=1, help="Number of nodes of the job.")] = 1,
    min_nodes: Annotated[int, typer.Option(min=1, help="Fewest nodes to begin with; all get two minutes to join.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=0, help="GPUs of each node.")] = 0,
    cpus_per_task: Annotated[int, typer.Option(min=1, help="Processors of each node.")] = 1,
    mem: Annotated[str | None, typer.Option(metavar="16G", help="Memory of each node.")] = None,
    time: Annotated[str | None, typer.Option(metavar="4:00:00", help="Time limit of the job.")] = None,
    partition: Annotated[str | None, typer.Option(help="Partition of the cluster.")] = None,
    account: Annotated[str | None, typer.Option(help="Account that pays.")] = None,
    array: Annotated[int | None, typer.Option(min=2, metavar="K", help="Number of jobs that share the trials.")] = None,
    grace: Annotated[str, typer.Option(metavar="2m", help="Time before the limit at which the launch ends.")] = "2m",
    setup: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with shell lines to run before the launch.")
    ] = None,
    only_print: Annotated[bool, typer.Option("--print", help="Print the script; submit nothing.")] = False,
    members: MembersOption = None,
    limit: LimitOption = None,
    patience: PatienceOption = "10m",
    checkpoint: CheckpointOption = "30s",
    workers: WorkersOption = None,
    workers_per_gpu: WorkersPerGpuOption = 1,
    device: DeviceOption = None,
    compiling: CompileOption = Compile.AUTO,
    retry: RetryOption = False,
    yes: YesOption = False,
    add: AddOption = False,
    changed: ChangedOption = None,
    keep: KeepOption = Keep.NOTHING,
    keep_steps: KeepStepsOption = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Submit a launch as a job of SLURM, which queues itself again after its time limit until no trial is missing.

    The script of the job and its log are in the folder slurm/ of the results.

    Example: memsweep slurm generalization --cpus-per-task 8 --time 4:00:00 --print
    """
    from memsweep.run import slurm

    _check_tracking(tracking_uri)
    options = launch_options(
        limit=limit, members=members, workers=workers, workers_per_gpu=workers_per_gpu, device=device,
        compiling=compiling, retry=retry, add=add, changed=changed, keep=keep, keep_steps=keep_steps,
        patience=patience, checkpoint=checkpoint, tracking_uri=tracking_uri,
    )  # fmt: skip
    lines, seconds = setup.read_text() if setup else "", parsed_seconds(grace, "--grace")
    size = nodes, cpus_per_task, gpus_per_node, mem
    request = slurm.Request(*size, time, partition, account, array, seconds, lines, min_nodes)
    loaded = load_all(sweeps, overrides)
    slurm.check(loaded, request)
    text = slurm.script(sweeps, results, replace(options, yes=confirmed(loaded, yes)), request, overrides or ())
    if only_print:
        print(text, end="")
        return
    job, path = slurm.submit(text, Path(sweeps[0]).stem, results)
    print(job)
    say(f"Job {job} runs {path}. To follow or stop it: {slurm.commands(path, job)}")


def kubernetes(
    sweeps: SweepsArgument,
    image: Annotated[str, typer.Option(help="Image with memsweep, and with sweep files and modules of the user.")],
    results: ResultsOption = "results",
    overrides: SetOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Maximum number of workers at the same time, a Pod each.")] = 1,
    gpus_per_worker: Annotated[int, typer.Option(min=0, help="GPUs of each worker.")] = 0,
    cpus_per_worker: CpusOption = None,
    memory_per_worker: Annotated[str, typer.Option(metavar="4Gi", help="Memory of each worker.")] = "4Gi",
    retries: Annotated[int, typer.Option(min=0, help="Maximum number of new clusters after failures.")] = 5,
    deadline: Annotated[str | None, typer.Option(metavar="12h", help="Time after which the job is ended.")] = None,
    node_selector: NodeSelectorOption = None,
    secret: SecretOption = None,
    service_account: Annotated[str | None, typer.Option(metavar="NAME", help="ServiceAccount of the Pods.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace of the job; default: kubectl's.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the job; default: a new one.")] = None,
    applying: Annotated[bool, typer.Option("--apply", help="Run kubectl apply; default: print the manifest.")] = False,
    members: MembersOption = None,
    limit: LimitOption = None,
    budget: BudgetOption = None,
    patience: PatienceOption = "10m",
    checkpoint: CheckpointOption = "30s",
    compiling: CompileOption = Compile.AUTO,
    retry: RetryOption = False,
    yes: YesOption = False,
    add: AddOption = False,
    changed: ChangedOption = None,
    keep: KeepOption = Keep.NOTHING,
    keep_steps: KeepStepsOption = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Print the manifest of a launch as a RayJob for KubeRay 1.5.1 and newer, or hand it to Kubernetes.

    Results are in an object store, sweep files in the image. Without --tracking-uri, MLflow is not filled.

    Example: memsweep kubernetes generalization --image registry/memsweep:0.1.0 --workers 8 --results s3://bucket/results
    """
    from memsweep.run import kubernetes

    _check_tracking(tracking_uri)
    options = launch_options(
        limit=limit, members=members, workers=None, device=None, compiling=compiling, retry=retry, add=add,
        changed=changed, keep=keep, keep_steps=keep_steps, budget=budget, patience=patience, checkpoint=checkpoint,
        tracking_uri=tracking_uri,
    )  # fmt: skip
    seconds = parsed_seconds(deadline, "--deadline") if deadline else None
    request = kubernetes.Request(
        image, workers, gpus_per_worker, cpus_per_worker, memory_per_worker, retries, seconds,
        tuple(node_selector or ()), secret, service_account, namespace, name,
    )  # fmt: skip
    options = replace(options, yes=confirmed(load_all(sweeps, overrides), yes))
    job = kubernetes.manifest(sweeps, results, options, request, overrides or ())
    if not applying:
        print(kubernetes.text(job), end="")
        return
    kubernetes.apply(job)
    print(job["metadata"]["name"])
    say(f"To see, follow or delete the job: {kubernetes.commands(job)}")
