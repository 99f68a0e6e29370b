#!/usr/bin/env bash
# torch 2.13.0, CPU: a compiled function that looks up a label for each example, and compares it with each class, is
# slower than the same compiled function behind a lookup of its own. Inductor fuses the lookup into the kernel of the
# comparison, inside its loop over classes, though the lookup does not depend on the class: with 64 classes each label is
# looked up 64 times, element by element, and the kernel takes more than one and a half times as long. The results are
# equal. A backward pass that compares again looks up again.
#
# Output seen:
#   picking the score of 8192 labels among 64 classes: lookup inside 159 us, before 95 us, 1.67x
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cd "$folder"
cat > labels.py <<'PY'
import time

import torch

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
groups, examples, batch, classes = 64, 1000, 128, 64
labels = torch.randint(classes, (groups, examples), generator=generator)
rows = torch.randint(examples, (groups, batch), generator=generator)
scores = torch.randn(groups, classes, batch, generator=generator)


def picked(wanted, scores):
    return torch.where(torch.arange(classes)[:, None] == wanted[:, None], scores, 0.0).sum(1)


def with_lookup(labels, rows, scores):
    return picked(labels.gather(1, rows), scores)


inside, compiled = torch.compile(with_lookup), torch.compile(picked)


def before(labels, rows, scores):
    return compiled(labels.gather(1, rows), scores)


def shortest(function):
    times = []
    for _ in range(500):
        begun = time.perf_counter()
        function(labels, rows, scores)
        times.append(time.perf_counter() - begun)
    return min(times) * 1e6


assert torch.equal(inside(labels, rows, scores), before(labels, rows, scores))
one, two = shortest(inside), shortest(before)
print(f"picking the score of {rows.numel()} labels among {classes} classes: ", end="")
print(f"lookup inside {one:.0f} us, before {two:.0f} us, {one / two:.2f}x")
assert one / two > 1.2
PY
TORCHINDUCTOR_CACHE_DIR="$folder/cache" "$folder/venv/bin/python" labels.py
