#!/usr/bin/env bash
# torch 2.13.0 (CPU): the first gradient by torch.func in a process imports torch._dynamo, and with it sympy and
# torch.distributed, although nothing is compiled: it enters `torch._dynamo.compiled_autograd._disable()`, which has
# nothing to disable where Dynamo was not imported. Importing torch, torch.func and a vmap without a gradient do not. The
# first gradient of a process takes a second, later ones a tenth of a millisecond, so that many short processes wait
# longer for it than they compute.
#
# Output seen:
#   after import: torch._dynamo imported False
#   after vmap: torch._dynamo imported False
#   after torch.autograd.grad: torch._dynamo imported False
#   after torch.func.grad: torch._dynamo imported True
#   after torch.func.grad: sympy imported True
#   the first gradient took over 100 times as long as the second: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import sys
import time

import torch
from torch.func import grad, vmap

seen = []


def is_imported(module, when):
    seen.append(module in sys.modules)
    print(f"{when}: {module} imported {seen[-1]}")


def loss(x):
    return (x**2).sum()


is_imported("torch._dynamo", "after import")
vmap(loss)(torch.ones(2, 3))
is_imported("torch._dynamo", "after vmap")
x = torch.ones(3, requires_grad=True)
torch.autograd.grad(loss(x), x)
is_imported("torch._dynamo", "after torch.autograd.grad")
seconds = []
for _ in range(2):
    begin = time.perf_counter()
    grad(loss)(torch.ones(3))
    seconds.append(time.perf_counter() - begin)
is_imported("torch._dynamo", "after torch.func.grad")
is_imported("sympy", "after torch.func.grad")
is_slow = seconds[0] > 100 * seconds[1]
print("the first gradient took over 100 times as long as the second:", is_slow)
raise SystemExit(seen != [False, False, False, True, True] or not is_slow)
PY
