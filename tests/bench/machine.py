"""On what did a benchmark run: hardware, versions and load, for its header and its JSON line."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "ray", "numpy", "scikit-learn", "pyarrow", "mlflow", "jax")


def describe() -> dict[str, Any]:
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
    }


def header() -> str:
    """The same in two lines for people."""
    told = describe()
    versions = ", ".join(f"{name} {told[name]}" for name in ("python", *PACKAGES) if told[name])
    load = " ".join(map(str, told["load_average"]))
    gpu = f", {told['gpu']}" if "gpu" in told else ""
    return f"{told['cpu']}, {told['cores']} cores{gpu}, load average {load}\n{versions}"


def cpu_name() -> str:
    """As Linux tells it; elsewhere whatever Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
