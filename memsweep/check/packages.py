"""The packages that memsweep needs, and what is said where one of them is absent, as in a reader's environment."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

NAMES = {"sklearn": "scikit-learn", "sqlalchemy": "mlflow", "alembic": "mlflow"}
"""Of packages that are imported by another name, or come with another."""
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def version() -> str:
    """Of memsweep, installed or not."""
    try:
        return metadata.version("memsweep")
    except metadata.PackageNotFoundError:
        return str(tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["version"])


def requirements() -> dict[str, str]:
    """Package -> what is needed of it, without those of extras."""
    try:
        found = metadata.requires("memsweep") or []
    except metadata.PackageNotFoundError:  # as in an environment that only reads
        found = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["dependencies"]
    return {re.split(r"[\[<>=!~; ]", text)[0]: text for text in found if "extra ==" not in text}


def remedy(error: ModuleNotFoundError) -> str | None:
    """What to do about a package of ours that is absent; None where the module is none of these."""
    module = (error.name or "").partition(".")[0]
    name = NAMES.get(module, module)
    if name not in requirements():
        return None
    return (
        f"this needs the package {name}, which is not installed here: pip install -c constraints.txt {name}. "
        "Reading results needs fewer packages (see Keep results in the README)."
    )
