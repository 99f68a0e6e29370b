"""Gives workers of Ray an engine that only sleeps, and a torch that does nothing, so that many fit on one machine.

Python runs this at the start of each process that has this folder on its PYTHONPATH; only Ray's workers are changed.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

STAND_INS = {
    "memsweep.run.worker.execution": "execution.py",
    "memsweep.engine.train.checkpoint": "checkpoint.py",
    "torch": "no_torch.py",
    "pandas": "nothing.py",
    "ray.data": "nothing.py",
}


class StandIns(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        own = STAND_INS.get(fullname)
        return spec_from_file_location(fullname, Path(__file__).with_name(own)) if own else None


if any(word.endswith("default_worker.py") for word in sys.orig_argv):
    sys.meta_path.insert(0, StandIns())
