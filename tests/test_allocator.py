"""The allocator of a worker: what a step frees is used again by the next step."""

import json
import os
import subprocess
import sys

import pytest

from memsweep.run.worker import allocator

FAULTS = """
import json, resource
from memsweep.run.worker import allocator
is_set = allocator.keep_freed()
import torch

def step():
    return [torch.zeros(size).add_(1) for size in (1 << 21, 3 << 20, 1 << 20, 5 << 19)]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(5):
    step()
before = faults()
for _ in range(20):
    step()
used = faults() - before
print(json.dumps([is_set, used, allocator.return_freed()]))
"""


def faults(**variables):
    """Whether the allocator was set, page faults of 20 steps, and whether memory was returned after them."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(allocator.SETTINGS)}
    command = [sys.executable, "-c", FAULTS]
    found = subprocess.run(command, env={**plain, **variables}, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.mark.skipif(not allocator._is_glibc(), reason="needs glibc")
def test_a_step_uses_the_memory_that_the_step_before_it_freed():
    for _ in range(3):  # as glibc is: 130,000 faults in about half of the processes, the others have almost none
        is_set, used, is_returned = faults()
        assert is_set and used < 25_000
        assert is_returned


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_settings_of_the_user_stay(name):
    value = "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072"
    assert faults(**{name: value})[0] is False


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    assert not allocator.keep_freed() and not allocator.return_freed()
