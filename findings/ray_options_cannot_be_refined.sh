#!/usr/bin/env bash
# ray 2.60.0: what `.options(...)` of a remote function or of an actor class returns has `.remote` and no `.options`,
# so options that one part of a program has set cannot be refined by another. `ray.remote(num_cpus=1)(f)`, which also
# sets options, can be refined. The second call of `.options` raises AttributeError. So a function that adds options to
# a remote function works until a caller has set options before.
#
# Output seen:
#   function: with options refinable False; decorated refinable True
#   actor: with options refinable False; decorated refinable True
#   second call: 'FuncWrapper' object has no attribute 'options'
#
# No cluster is started.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ray==2.60.0
"$folder/venv/bin/python" - <<'PY'
import ray


def f():
    return 1


class Actor:
    pass


seen = []
for name, plain in (("function", f), ("actor", Actor)):
    refined = ray.remote(plain).options(num_cpus=1)
    assert hasattr(refined, "remote")
    pair = hasattr(refined, "options"), hasattr(ray.remote(num_cpus=1)(plain), "options")
    seen.append(pair)
    print(f"{name}: with options refinable {pair[0]}; decorated refinable {pair[1]}")
message = ""
try:
    ray.remote(f).options(num_cpus=1).options(resources={"place": 1})
except AttributeError as error:
    message = str(error)
    print(f"second call: {error}")
raise SystemExit(seen != [(False, True)] * 2 or "options" not in message)
PY
