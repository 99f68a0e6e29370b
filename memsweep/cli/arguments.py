"""Defines the arguments and options that verbs share, and converts their texts to values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from memsweep.cli.printing import Format

if TYPE_CHECKING:
    from memsweep.run.launch_options import LaunchOptions
    from memsweep.spec.sweep import Sweep

T = TypeVar("T")


class Compile(StrEnum):
    """Values of --compile."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"

    @property
    def choice(self) -> bool | None:
        """Returns whether programs are compiled; None: as chosen at their first launch."""
        return {Compile.ALWAYS: True, Compile.NEVER: False}.get(self)


class Changed(StrEnum):
    """Values of --changed."""

    RERUN = "rerun"
    KEEP = "keep"


class Keep(StrEnum):
    """Values of --keep."""

    NOTHING = "nothing"
    WEIGHTS = "weights"
    STATE = "state"


class Device(StrEnum):
    """Values of --device."""

    CPU = "cpu"
    CUDA = "cuda"


def sweeps_beginning(text: str) -> list[str]:
    """Returns the names of sweeps that begin with the text, for shell completion."""
    from memsweep.spec.sweep_files import known_sweeps

    return [name for name in known_sweeps() if name.startswith(text)]


SweepArgument = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP",
        help="A sweep file or its bare name; FILE:NAME selects one sweep of a file.",
        autocompletion=sweeps_beginning,
    ),
]
SweepsArgument = Annotated[
    list[str],
    typer.Argument(metavar="SWEEP", help="Sweep files or their bare names.", autocompletion=sweeps_beginning),
]
StoredSweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="Name of a stored sweep.")]
ResultsOption = Annotated[
    str,
    typer.Option(
        "--results",
        envvar="MEMSWEEP_RESULTS",
        help="Results folder, s3://bucket/prefix or gs://bucket/prefix.",
        metavar="URI",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=V1,V2", help="Replace or add an axis; seeds=0:5 sets the seeds. Repeatable."),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Maximum number of trials of each sweep, from its first.")]
PartOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Run share I of N of the trials; slurm: as numbered in a job array. The parts may run at the same time.",
    ),
]
MembersOption = Annotated[
    int | None, typer.Option(min=1, help="Maximum number of trials of a pack that train at the same time.")
]
DeviceOption = Annotated[Device | None, typer.Option(help="Device for training; default: a GPU if there is one.")]
CompileOption = Annotated[
    Compile,
    typer.Option(
        "--compile",
        help="Compile training programs; auto: where it saves time.",
    ),
]
RetryOption = Annotated[bool, typer.Option("--retry", help="Run failed trials again.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Launch more than 1,000,000 trials without confirmation.")]
AddOption = Annotated[
    bool,
    typer.Option("--add", help="Keep the trials of earlier launches in the sweep; default: drop them."),
]
ChangedOption = Annotated[
    Changed | None,
    typer.Option(
        "--changed",
        help="Trials that ran other code of yours: run them again, or keep both codes; default: refuse the launch.",
    ),
]
KeepOption = Annotated[
    Keep,
    typer.Option(
        "--keep",
        help="Keep the weights of each trial at its end, or also the state of training, from which trials with a "
        "larger budget go on; settled trials without them run again.",
    ),
]
KeepStepsOption = Annotated[
    str | None, typer.Option("--keep-steps", metavar="N1,N2", help="Steps at which weights are kept too.")
]
BudgetOption = Annotated[
    str | None, typer.Option(metavar="30m", help="Limit of time, trials or steps: 90s, 30m, 2h, 500trials, 1e6steps.")
]
PatienceOption = Annotated[str, typer.Option(metavar="10m", help="End a worker after this time without progress.")]
CheckpointOption = Annotated[str, typer.Option(metavar="30s", help="Time between two checkpoints of a pack.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="Packs that run at the same time; default: as many as fit the cluster."),
]
WorkersPerGpuOption = Annotated[
    int,
    typer.Option(
        "--workers-per-gpu",
        min=1,
        max=16,
        help="Workers that share a GPU and its memory, with a processor each; needs --device cuda.",
    ),
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        metavar="URI",
        show_envvar=True,
        help="URI of MLflow, or none to turn it off; default: a database in the results folder.",
    ),
]
FormatOption = Annotated[Format, typer.Option("--format", help="Format of the printed rows.")]


def load(path_or_name: str, overrides: list[str] | None) -> Sweep:
    """Returns the sweep of a file, with the axes from --set.  Raises SweepError."""
    from memsweep.spec.overrides import parse_overrides
    from memsweep.spec.sweep_files import load_sweep

    sweep = load_sweep(path_or_name)
    return sweep.with_axes(parse_overrides(overrides)) if overrides else sweep


def load_all(paths_or_names: list[str], overrides: list[str] | None) -> list[Sweep]:
    """Returns the sweeps of these files, with the axes from --set.  Raises SweepError."""
    from memsweep.spec.overrides import parse_overrides
    from memsweep.spec.sweep_files import load_sweeps

    axes = parse_overrides(overrides or [])
    sweeps = [sweep for path_or_name in paths_or_names for sweep in load_sweeps(path_or_name).values()]
    return [sweep.with_axes(axes) if axes else sweep for sweep in sweeps]


def confirm(question: str, yes: bool) -> None:
    """Asks on a terminal before something that can't be undone.  Raises typer.Abort, or BadParameter elsewhere.

    yes: whether the user has agreed by --yes.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter(f"{question} Without a terminal, add --yes.", param_hint="--yes")
        typer.confirm(question, abort=True, err=True)


def confirmed(sweeps: list[Sweep], yes: bool) -> bool:
    """Returns whether the user allows sweeps of any size: by --yes, or by confirmation on a terminal.

    Raises SweepError for more than MOST_TRIALS trials without either.
    """
    from memsweep.spec.sweep import SweepError, check_size

    try:
        if not yes:
            check_size(sweeps)
    except SweepError as error:
        if not sys.stdin.isatty():
            raise
        return typer.confirm(f"{error} Launch all of them?", abort=True, err=True)
    return yes


def check_listed(sweep: Sweep, limit: int | None) -> None:
    """Raises SweepError for a sweep with more than MOST_TRIALS trials to list."""
    from memsweep.spec.sweep import MOST_TRIALS, SweepError

    if limit is None and len(sweep) > MOST_TRIALS:
        raise SweepError([f"{sweep.name} has {len(sweep):,} trials, more than {MOST_TRIALS:,}: add --limit 1000."])


def launch_options(
    *,
    limit: int | None,
    part: str | None = None,
    members: int | None,
    workers: int | None,
    workers_per_gpu: int = 1,
    device: Device | None,
    compiling: Compile,
    retry: bool,
    add: bool = False,
    changed: Changed | None = None,
    keep: Keep = Keep.NOTHING,
    keep_steps: str | None = None,
    budget: str | None = None,
    patience: str = "10m",
    checkpoint: str = "30s",
    tracking_uri: str | None = None,
) -> LaunchOptions:
    """Returns the options of a launch from the texts of the command line.  Raises typer.BadParameter."""
    from memsweep.run.launch_options import LaunchOptions
    from memsweep.spec.budget import UNLIMITED, Budget
    from memsweep.spec.part import Part

    if workers_per_gpu > 1 and device is not Device.CUDA:
        raise typer.BadParameter(f"{workers_per_gpu}: needs GPUs. Add --device cuda.", param_hint="--workers-per-gpu")
    return LaunchOptions(
        limit=limit,
        part=_parsed(Part.of, part, "--part") if part else None,
        members=members,
        workers=workers,
        workers_per_gpu=workers_per_gpu,
        device=device.value if device else None,
        compiling=compiling.choice,
        retry=retry,
        add=add,
        changed=changed.value if changed else None,
        keep=keep.value,
        keep_steps=parsed_steps(keep_steps),
        budget=_parsed(Budget.of, budget, "--budget") if budget else UNLIMITED,
        patience_seconds=parsed_seconds(patience, "--patience"),
        checkpoint_seconds=parsed_seconds(checkpoint, "--checkpoint"),
        tracking_uri=tracking_uri,
    )


def parsed_steps(text: str | None, option: str = "--keep-steps") -> tuple[int, ...]:
    """Returns the value of this option, steps joined by commas.  Raises typer.BadParameter."""
    try:
        return tuple(int(step) for step in (text or "").split(",") if step.strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r}: must be whole numbers, such as 100,200.", param_hint=option) from None


def parsed_seconds(text: str, option: str) -> float:
    """Returns the value of this option, in seconds.  Raises typer.BadParameter."""
    from memsweep.spec.budget import seconds

    return _parsed(seconds, text, option)


def _parsed(parse: Callable[[str], T], text: str, option: str) -> T:
    from memsweep.spec.config import ConfigError

    try:
        return parse(text)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
