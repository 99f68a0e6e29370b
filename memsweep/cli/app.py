"""The command line: its verbs, and its exit after an error.

Only the verbs print or exit; each imports its heavy modules itself, so that help is instant.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from memsweep.cli import INTERRUPTED, WRONG, keeping, launching, reading, recording, submitting
from memsweep.cli.printing import say

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
VERBS = (
    *(launching.plan, launching.launch, submitting.submit, submitting.slurm),
    *(submitting.kubernetes, launching.missing),
    *(reading.status, reading.query, reading.report, reading.diff, reading.weights, reading.claims, reading.verify),
    *(recording.run, recording.probe),
    *(keeping.note, keeping.rename, keeping.export, keeping.forget),
    *(keeping.compact, keeping.track, keeping.ui, keeping.doctor),
)
for _verb in VERBS:
    app.command()(_verb)


def _show_version(is_set: bool) -> None:
    if is_set:
        from memsweep.check.packages import version

        print(f"memsweep {version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Sweeps that measure memorization, capacity and generalization in deep networks."""


def main() -> None:
    """Runs the command `memsweep`: every expected error is one message and exit code 2."""
    from memsweep.spec.config import ConfigError

    try:
        app(prog_name="memsweep")
    except ConfigError as error:
        _refuse(error)
    except KeyboardInterrupt:
        say("memsweep: interrupted. Trials that ended are stored.")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output, for example head, has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ModuleNotFoundError as error:
        from memsweep.check.packages import remedy

        if sentence := remedy(error):
            _refuse(sentence)
        raise
    except Exception as error:
        if type(error).__module__.startswith("memsweep."):
            _refuse(error)
        raise


def _refuse(error: Exception | str) -> None:
    say(f"memsweep: {error}")
    sys.exit(WRONG)
