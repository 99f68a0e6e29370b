"""The packages that memsweep needs, and the message where a package is missing, as where results are only read."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

NAMES = {"sklearn": "scikit-learn", "sqlalchemy": "mlflow", "alembic": "mlflow", "yaml": "pyyaml"}
"""Modules whose package has another name, or that come with another package."""
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def version() -> str:
    """Returns the version of memsweep, installed or not."""
    try:
        return metadata.version("memsweep")
    except metadata.PackageNotFoundError:
        return str(tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["version"])


def requirements() -> dict[str, str]:
    """Returns package name -> requirement, without extras."""
    try:
        texts = metadata.requires("memsweep") or []
    except metadata.PackageNotFoundError:  # memsweep is not installed where results are only read
        texts = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["dependencies"]
    return {re.split(r"[\[<>=!~; ]", text)[0]: text for text in texts if "extra ==" not in text}


def remedy(error: ModuleNotFoundError) -> str | None:
    """Returns a message on a missing package with the remedy; None where memsweep does not require the package."""
    module = (error.name or "").partition(".")[0]
    name = NAMES.get(module, module)
    if name not in requirements():
        return None
    return (
        f"the package {name} is not installed: pip install -c constraints.txt {name}; in a clone, "
        "pip install -c constraints.txt . installs all packages that training needs. "
        "Reading results needs fewer packages (docs/how-to/results.md lists them)."
    )
