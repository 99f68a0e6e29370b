#!/usr/bin/env bash
# torch 2.13.0: torch.func.vmap over the weights of nn.GRU, nn.LSTM or nn.RNN raises RuntimeError ("Batching rule not
# implemented") for a plain forward pass, and works when the same function stands inside torch.func.grad: the gradient
# transform decomposes the layer into operations that vmap knows, the plain call does not.
# So a training step lifts over members, its loss is right, and the first evaluation of the same network fails.
# Whether a network can be lifted must be tried for both.
#
# Output seen:
#   GRU: vmap(forward) raises RuntimeError, vmap(grad(forward)) works and equals each member's own gradient
#   LSTM: vmap(forward) raises RuntimeError, vmap(grad(forward)) works and equals each member's own gradient
#   RNN: vmap(forward) raises RuntimeError, vmap(grad(forward)) works and equals each member's own gradient
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" -W ignore - <<'PY'
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

torch.manual_seed(0)
changed = False
for layer in (nn.GRU, nn.LSTM, nn.RNN):
    members = [layer(3, 4, batch_first=True).double() for _ in range(2)]
    weights, _ = stack_module_state(members)
    inputs = torch.randn(2, 5, 7, 3, dtype=torch.float64)

    def forward(own, x, module=members[0]):
        return functional_call(module, own, (x,))[0].square().sum()

    try:
        vmap(forward)(weights, inputs)
        plain = "works"
    except RuntimeError as error:
        plain = "raises RuntimeError" if "Batching rule not implemented" in str(error) else str(error)
    lifted = vmap(grad(forward))(weights, inputs)
    equal = True
    for m, member in enumerate(members):
        alone = torch.autograd.grad(member(inputs[m])[0].square().sum(), list(member.parameters()))
        for (name, _), value in zip(member.named_parameters(), alone, strict=True):
            equal &= torch.allclose(lifted[name][m], value, rtol=1e-10, atol=1e-12)
    inside = "works and equals each member's own gradient" if equal else "works, with other gradients"
    print(f"{layer.__name__}: vmap(forward) {plain}, vmap(grad(forward)) {inside}")
    changed |= plain != "raises RuntimeError" or not equal
raise SystemExit(changed)
PY
