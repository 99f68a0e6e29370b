"""Arguments and options of the verbs, and the conversion of their texts to values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from memsweep.cli.printing import Format

if TYPE_CHECKING:
    from memsweep.spec.budget import Budget
    from memsweep.spec.sweep import Sweep

T = TypeVar("T")


class Compile(StrEnum):
    """Values of --compile."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"

    @property
    def wish(self) -> bool | None:
        """Whether to compile; None: choose automatically."""
        return {Compile.ALWAYS: True, Compile.NEVER: False}.get(self)


class Device(StrEnum):
    """Values of --device."""

    CPU = "cpu"
    CUDA = "cuda"


def sweeps_beginning(text: str) -> list[str]:
    """Returns names of sweeps that begin with the text, for shell completion."""
    from memsweep.spec.sweep_files import known_sweeps

    return [name for name in known_sweeps() if name.startswith(text)]


SweepArgument = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP",
        help="A sweep file, or its bare name; of several sweeps, FILE:NAME.",
        autocompletion=sweeps_beginning,
    ),
]
SweepsArgument = Annotated[
    list[str],
    typer.Argument(metavar="SWEEP", help="Sweep files, or their bare names.", autocompletion=sweeps_beginning),
]
ResultsOption = Annotated[
    str,
    typer.Option(
        "--results",
        envvar="MEMSWEEP_RESULTS",
        help="Folder of the results, or s3://bucket/prefix, gs://…",
        metavar="URI",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=V1,V2", help="Replace or add an axis; seeds=0:5 sets the seeds. Repeatable."),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Only the sweep's first trials.")]
MembersOption = Annotated[int | None, typer.Option(min=1, help="Trials trained at a time in a pack, at most.")]
DeviceOption = Annotated[Device | None, typer.Option(help="Default: a GPU where there is one.")]
CompileOption = Annotated[
    Compile,
    typer.Option("--compile", help="Compile training programs; auto: where it pays, as chosen at their first launch."),
]
RetryOption = Annotated[bool, typer.Option("--retry", help="Run failed trials again.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Launch also more than 1,000,000 trials, unasked.")]
AddOption = Annotated[
    bool, typer.Option("--add", help="Keep what the sweep wanted before; default: it wants what this launch says.")
]
BudgetOption = Annotated[
    str | None, typer.Option(metavar="30m", help="End after this time, 90s, 30m, 2h, or so many 500trials, 1e6steps.")
]
PatienceOption = Annotated[
    str, typer.Option(metavar="10m", help="A worker that shows no progress for so long hangs, and is ended.")
]
CheckpointOption = Annotated[str, typer.Option(metavar="30s", help="Save packs in training about this often.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Packs at a time; default: what the cluster has room for when it starts.")
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        metavar="URI",
        show_envvar=True,
        help="Where MLflow is; default: a database in the results folder.",
    ),
]
FormatOption = Annotated[Format, typer.Option("--format", help="How rows are printed.")]


def load(path_or_name: str, overrides: list[str] | None) -> Sweep:
    """Returns the sweep of a file, with the axes from --set.  Raises SweepError."""
    from memsweep.spec.overrides import parse_overrides
    from memsweep.spec.sweep_files import load_sweep

    sweep = load_sweep(path_or_name)
    return sweep.with_axes(parse_overrides(overrides)) if overrides else sweep


def load_all(paths_or_names: list[str], overrides: list[str] | None) -> list[Sweep]:
    """Returns all sweeps of these files, with the axes from --set.  Raises SweepError."""
    from memsweep.spec.overrides import parse_overrides
    from memsweep.spec.sweep_files import load_sweeps

    axes = parse_overrides(overrides or [])
    loaded = [sweep for path_or_name in paths_or_names for sweep in load_sweeps(path_or_name).values()]
    return [sweep.with_axes(axes) if axes else sweep for sweep in loaded]


def confirmed(sweeps: list[Sweep], yes: bool) -> bool:
    """Returns whether sweeps may have any size: by --yes, or by confirmation on a terminal.

    Raises SweepError if not.
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


def check_shown(sweep: Sweep, limit: int | None) -> None:
    """Raises SweepError for a sweep with too many trials to list."""
    from memsweep.spec.sweep import MOST_TRIALS, SweepError

    if limit is None and len(sweep) > MOST_TRIALS:
        raise SweepError([f"{sweep.name} has {len(sweep):,} trials, more than {MOST_TRIALS:,}: add --limit 1000."])


def words_of(values: dict[str, Any]) -> list[str]:
    """Returns options and their values as words of a command; None and False are left out."""
    words = []
    for name, value in values.items():
        for item in value if isinstance(value, list) else [value]:
            if item not in (None, False):
                words += [name] if item is True else [name, str(item)]
    return words


def parsed_budget(text: str | None) -> Budget:
    """Returns the budget of --budget; None: unlimited."""
    from memsweep.spec.budget import UNLIMITED, Budget

    return _parsed(Budget.of, text, "--budget") if text else UNLIMITED


def parsed_seconds(text: str, option: str) -> float:
    """Returns the time that this option gives, in seconds."""
    from memsweep.spec.budget import seconds

    return _parsed(seconds, text, option)


def _parsed(parse: Callable[[str], T], text: str, option: str) -> T:
    from memsweep.spec.config import ConfigError

    try:
        return parse(text)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
