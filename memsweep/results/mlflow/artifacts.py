"""Files that MLflow stores with the run of a sweep: its plan, the report and the sweep's figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from memsweep.results.mlflow.projection import Plan, digest
from memsweep.results.storage.location import Location


class Artifact(NamedTuple):
    """A file of a sweep's run; the run's tag with the file's name holds the digest of the stored content."""

    digest: str
    folder: str | None = None  # in MLflow
    path: Location | None = None  # None: the plan, which is not a file


def files(plan: Plan, results: Location, sweeps: Iterable[str]) -> dict[str, Artifact]:
    """Returns name -> artifact for the plan and the files that `memsweep report` has drawn.

    sweeps: names of all sweeps of the folder.  Raises OSError.
    """
    artifacts = {"plan.csv": Artifact(plan.digest)}
    for path in (results / "report.html", *figures(results, plan.sweep, sweeps)):
        if path.is_file():
            folder = "figures" if path.parent != results else None
            artifacts[path.name] = Artifact(digest(path.read_bytes()), folder, path)
    return artifacts


def figures(results: Location, sweep: str, sweeps: Iterable[str]) -> list[Location]:
    """Returns the paths of a sweep's figures, sorted; figures of sweep x-y do not belong to sweep x.

    sweeps: names of all sweeps of the folder.  Raises OSError.
    """
    paths: list[Location] = [
        path for kind in ("pdf", "svg", "png") for path in results.glob(f"figures/{sweep}-*.{kind}")
    ]
    longer = tuple(f"{name}-" for name in sweeps if name.startswith(f"{sweep}-"))
    return sorted(path for path in paths if not path.name.startswith(longer))
