#!/usr/bin/env bash
# torch 2.13.0, CPU, one thread, float32: torch.sigmoid, gelu and x ** 1.5 give one and the same number other bits where
# it lies in a strided tensor, and sigmoid and x ** 1.5 also where it is among the last elements of a contiguous tensor
# whose length is no multiple of two vectors: these few are computed one at a time, by another algorithm. exp, log, tanh,
# sin, erf and sqrt give the same bits at every place. All elements are right to the last bit or two.
# So a network with tanh gives the bits of its run alone in any pack, and the same network with sigmoid does so only at
# widths that are multiples of 32 (of 16 with AVX2).
#
# Output seen, which functions give other bits than for the whole contiguous tensor:
#   AVX2: strided: sigmoid gelu pow; rows of 50 one by one: sigmoid pow; rows of 64 one by one: none;
#   AVX512: strided: sigmoid gelu pow; rows of 50 one by one: sigmoid pow; rows of 64 one by one: none;
#
# Seen on x86-64 with AVX512; AVX2 by ATEN_CPU_CAPABILITY.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
for capability in avx2 default_of_processor; do
  if [[ $capability == avx2 ]]; then export ATEN_CPU_CAPABILITY=avx2; else unset ATEN_CPU_CAPABILITY; fi
  "$folder/venv/bin/python" - <<'PY'
import torch

torch.set_num_threads(1)
torch.manual_seed(0)
functions = {
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "erf": torch.erf,
    "sqrt": torch.sqrt,
    "sigmoid": torch.sigmoid,
    "gelu": torch.nn.functional.gelu,
    "pow": lambda x: x**1.5,
}
x = torch.rand(64, 50) + 0.01
strided = torch.empty(64, 100)[:, ::2]
strided.copy_(x)
even = torch.rand(64, 64) + 0.01
seen = {"strided": [], "rows of 50 one by one": [], "rows of 64 one by one": []}
for name, function in functions.items():
    if not torch.equal(function(strided), function(x)):
        seen["strided"].append(name)
    if not torch.equal(torch.stack([function(row) for row in x]), function(x)):
        seen["rows of 50 one by one"].append(name)
    if not torch.equal(torch.stack([function(row) for row in even]), function(even)):
        seen["rows of 64 one by one"].append(name)
print(torch.backends.cpu.get_cpu_capability() + ":", *(f"{k}: {' '.join(v) or 'none'};" for k, v in seen.items()))
raise SystemExit(list(seen.values()) != [["sigmoid", "gelu", "pow"], ["sigmoid", "pow"], []])
PY
done
