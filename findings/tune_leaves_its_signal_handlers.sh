#!/usr/bin/env bash
# ray 2.60.0: `Tuner.fit` replaces the program's handlers of SIGINT and SIGUSR1 and does not put them back when it
# returns: from then on the first Ctrl-C of the program that goes on raises no KeyboardInterrupt, because Tune's handler
# of a run that has ended takes it. `ray.init` likewise replaces the handler of SIGTERM, `ray.shutdown` does not restore
# it.
#
# Output seen:
#   before: SIGINT mine, SIGUSR1 mine, SIGTERM mine
#   after ray.init: SIGINT mine, SIGUSR1 mine, SIGTERM other
#   after fit: SIGINT other, SIGUSR1 other, SIGTERM other
#   after ray.shutdown: SIGINT other, SIGUSR1 other, SIGTERM other
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ray[tune]==2.60.0"
python="$folder/venv/bin/python"
cd "$folder"
"$python" - <<'PY'
import os
import signal

import ray
from ray import tune

NAMES = ("SIGINT", "SIGUSR1", "SIGTERM")


def mine(number, frame):
    raise KeyboardInterrupt


def owners():
    return ["mine" if signal.getsignal(getattr(signal, name)) is mine else "other" for name in NAMES]


def show(when):
    print(f"{when}: " + ", ".join(f"{name} {owner}" for name, owner in zip(NAMES, owners())), flush=True)
    return owners()


for name in NAMES:
    signal.signal(getattr(signal, name), mine)
seen = [show("before")]
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
seen.append(show("after ray.init"))
tune.Tuner(lambda config: {"x": 1}, run_config=tune.RunConfig(storage_path=os.path.abspath("results"), verbose=0)).fit()
seen.append(show("after fit"))
ray.shutdown()
seen.append(show("after ray.shutdown"))
expected = [["mine"] * 3, ["mine", "mine", "other"], ["other"] * 3, ["other"] * 3]
raise SystemExit(seen != expected)
PY
