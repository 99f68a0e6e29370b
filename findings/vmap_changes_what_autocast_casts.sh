#!/usr/bin/env bash
# torch 2.13.0 on a CPU: under torch.func.vmap over weights, torch.autocast(bfloat16) casts other operations than without
# vmap. nn.Linear with a bias returns float32 instead of bfloat16, with other numbers, because its product and the
# addition of its bias are lifted one by one; without a bias it is the same. nn.BatchNorm1d in evaluation mode raises
# RuntimeError for bfloat16 inputs, which it takes without vmap; nn.LayerNorm returns the same numbers as float32.
# So a network under autocast that is lifted over members is another computation than each member alone, and one with
# batch normalization can't be lifted at all unless its normalization is kept out of autocast.
#
# Output seen:
#   Linear with bias: alone torch.bfloat16, lifted torch.float32, other numbers
#   Linear without bias: alone torch.bfloat16, lifted torch.bfloat16, the same numbers
#   LayerNorm: alone torch.bfloat16, lifted torch.float32, the same numbers
#   BatchNorm1d: alone torch.bfloat16, lifted raises RuntimeError: expected scalar type BFloat16 but found Float
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" -W ignore - <<'PY'
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

torch.manual_seed(0)
seen = []
layers = {
    "Linear with bias": lambda: nn.Linear(6, 6),
    "Linear without bias": lambda: nn.Linear(6, 6, bias=False),
    "LayerNorm": lambda: nn.LayerNorm(6),
    "BatchNorm1d": lambda: nn.BatchNorm1d(6).eval(),
}
for name, make in layers.items():
    members = [make() for _ in range(3)]
    state = stack_module_state(members)
    inputs = torch.randn(3, 5, 6).to(torch.bfloat16)

    def forward(own, x, module=members[0]):
        return functional_call(module, own, (x,))

    with torch.autocast("cpu", torch.bfloat16):
        alone = members[0](inputs[0])
        try:
            lifted = vmap(forward)(state, inputs)[0]
            numbers = "the same numbers" if torch.equal(lifted.float(), alone.float()) else "other numbers"
            seen.append(f"{name}: alone {alone.dtype}, lifted {lifted.dtype}, {numbers}")
        except RuntimeError as error:
            seen.append(f"{name}: alone {alone.dtype}, lifted raises RuntimeError: {str(error).splitlines()[0]}")
print("\n".join(seen))
raise SystemExit(
    seen
    != [
        "Linear with bias: alone torch.bfloat16, lifted torch.float32, other numbers",
        "Linear without bias: alone torch.bfloat16, lifted torch.bfloat16, the same numbers",
        "LayerNorm: alone torch.bfloat16, lifted torch.float32, the same numbers",
        "BatchNorm1d: alone torch.bfloat16, lifted raises RuntimeError: expected scalar type BFloat16 but found Float",
    ]
)
PY
