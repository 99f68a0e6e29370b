#!/usr/bin/env bash
# Ray 2.60.0: ray.init starts one Python worker for each processor in advance, and Ray Tune never uses them. Tune gives
# the actor of every trial a runtime environment of its own (PL_DISABLE_FORK among its variables), and a worker started
# without one does not match it: new processes are started while those started in advance stay idle. The same environment
# given to ray.init does not help, since workers are started in advance without it. A plain actor takes one of them.
# On a small machine each launch so pays for twice as many workers as it uses.
#
# Output seen:
#   plain actor: a worker started in advance
#   trial of Tune: a new worker
#   plain actor with the environment of ray.init: a new worker
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ray[tune]==2.60.0" psutil==7.2.2
cat > "$folder/show.py" <<'PY'
import logging
import os
import sys
import tempfile
import time

import psutil
import ray
from ray import tune

QUIET = {"address": "local", "num_cpus": 2, "include_dashboard": False, "log_to_driver": False}


def workers():
    family = psutil.Process().children(recursive=True)
    return {process.pid for process in family if "ray::IDLE" in " ".join(process.cmdline())}


def started_in_advance():
    until = time.monotonic() + 60
    while len(found := workers()) < 2:
        assert time.monotonic() < until, "no workers were started in advance"
        time.sleep(0.2)
    return found


@ray.remote(num_cpus=1)
class Actor:
    def pid(self):
        return os.getpid()


class Trial(tune.Trainable):
    def step(self):
        return {"done": True, "worker": os.getpid()}


def asked_of_tune():
    tuner = tune.Tuner(
        tune.with_resources(Trial, {"cpu": 1}),
        run_config=tune.RunConfig(
            storage_path=tempfile.mkdtemp(dir=sys.argv[1]),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    (result,) = tuner.fit()
    assert result.error is None, result.error
    return result.metrics["worker"]


def kind(pid, early):
    return "a worker started in advance" if pid in early else "a new worker"


ray.init(**QUIET, logging_level=logging.ERROR)
early = started_in_advance()
tuned = kind(asked_of_tune(), early)
plain = kind(ray.get(Actor.remote().pid.remote()), early)
ray.shutdown()
ray.init(**QUIET, logging_level=logging.ERROR, runtime_env={"env_vars": {"PL_DISABLE_FORK": "1"}})
early = started_in_advance()
of_job = kind(ray.get(Actor.remote().pid.remote()), early)
ray.shutdown()
print(f"plain actor: {plain}")
print(f"trial of Tune: {tuned}")
print(f"plain actor with the environment of ray.init: {of_job}")
raise SystemExit((plain, tuned, of_job) != ("a worker started in advance", "a new worker", "a new worker"))
PY
RAY_AIR_NEW_OUTPUT=0 "$folder/venv/bin/python" -W ignore "$folder/show.py" "$folder" 2> "$folder/errors" || { code=$?; cat "$folder/errors" >&2; exit "$code"; }
