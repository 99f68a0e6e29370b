#!/usr/bin/env bash
# torch 2.13.0, CPU, one thread: torch.bmm of [M, 50, 64] and [M, 64, 1] does not give the bits that the M products
# give one at a time. With 2, 3 or 8 columns it does, in float32 and in float64.
# So a network with one output column, lifted over M members by torch.func.vmap, rounds with the number of members,
# and every other linear layer of the same network does not. Padding the one column to two restores equality.
#
# Output seen:
#   float32: 1 column differs, 2 equal, 3 equal, 8 equal
#   float64: 1 column differs, 2 equal, 3 equal, 8 equal
#
# Seen on x86-64; which kernel serves one column is the library's choice for the processor.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PY'
import torch

torch.set_num_threads(1)
torch.manual_seed(0)
seen = []
for dtype in (torch.float32, torch.float64):
    words = []
    for columns in (1, 2, 3, 8):
        left, right = torch.randn(64, 50, 64, dtype=dtype), torch.randn(64, 64, columns, dtype=dtype)
        together = torch.bmm(left, right)
        alone = torch.cat([torch.bmm(left[m : m + 1], right[m : m + 1]) for m in range(64)])
        words.append("equal" if torch.equal(together, alone) else "differs")
    seen.append(words)
    print(f"{str(dtype).removeprefix('torch.')}: 1 column {words[0]}, 2 {words[1]}, 3 {words[2]}, 8 {words[3]}")
raise SystemExit(seen != [["differs", "equal", "equal", "equal"]] * 2)
PY
