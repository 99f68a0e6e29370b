#!/usr/bin/env bash
# torch 2.13.0, CPU, glibc: a program that makes the same tensors of 48 MiB in each step gets them from the system in each
# step, which must clear all of their pages: 12,288 page faults a tensor and step, up to a seventh of a training step of
# wide networks. torch's CPU allocator keeps no freed memory, unlike its CUDA allocator, and glibc maps each block of more
# than 32 MiB anew, whatever its adaptive thresholds have learned. With transparent huge pages set to "madvise" or
# "always", the variable THP_MEM_ALLOC_ENABLE=1 makes the faults twenty times fewer, and glibc's M_MMAP_MAX=0 with a high
# M_TRIM_THRESHOLD makes them none.
#
# Output seen:
#   page faults a step: as it is 24578, with huge pages 1072, without mapping 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
cat > steps.py <<'PY'
import ctypes
import resource
import sys

if "unmapped" in sys.argv:
    library = ctypes.CDLL(None)
    assert library.mallopt(-4, 0) and library.mallopt(-1, 1 << 30)  # M_MMAP_MAX, M_TRIM_THRESHOLD

import torch

torch.set_num_threads(1)
inputs, weights = torch.ones(3072, 64), torch.ones(64, 4096)


def step():
    torch.relu(inputs @ weights)


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


for _ in range(20):
    step()
before = faults()
for _ in range(10):
    step()
print((faults() - before) // 10)
PY
plain=$("$folder/venv/bin/python" steps.py)
huge=$(THP_MEM_ALLOC_ENABLE=1 "$folder/venv/bin/python" steps.py)
unmapped=$("$folder/venv/bin/python" steps.py unmapped)
echo "page faults a step: as it is $plain, with huge pages $huge, without mapping $unmapped"
test "$plain" -gt 20000
test "$unmapped" -lt 5000
if ! grep -q "\[never\]" /sys/kernel/mm/transparent_hugepage/enabled; then test "$huge" -lt 5000; fi
