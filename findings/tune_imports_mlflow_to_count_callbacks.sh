#!/usr/bin/env bash
# ray 2.60.0 with mlflow 3.17.2: a Tuner with any callback imports MLflow where it is installed, to count whether the
# callback is Ray's own for MLflow; also with RAY_USAGE_STATS_ENABLED=0, where no count is sent. The import takes half a
# second to a second of the start, while workers wait for their first trial. A Tuner without callbacks does not import
# MLflow.
#
# Output seen:
#   without a callback: mlflow imported False
#   with a callback that does nothing: mlflow imported True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ray[tune]==2.60.0" mlflow==3.17.2
cd "$folder"
cat > fit.py <<'PY'
import sys

import ray
from ray import tune


class Nothing(tune.Callback):
    """Does nothing."""


def train(config):
    tune.report({"x": 1})


ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=1, logging_level="ERROR")
callbacks = [Nothing()] if sys.argv[1] == "with" else None
tune.Tuner(
    train, run_config=tune.RunConfig(storage_path=sys.argv[2], verbose=0, callbacks=callbacks)
).fit()
print("MLFLOW", "mlflow" in sys.modules)
ray.shutdown()
PY
export RAY_USAGE_STATS_ENABLED=0 TUNE_DISABLE_AUTO_CALLBACK_LOGGERS=1
without=$("$folder/venv/bin/python" fit.py without "$folder/a" 2> /dev/null | grep -o 'MLFLOW.*')
with=$("$folder/venv/bin/python" fit.py with "$folder/b" 2> /dev/null | grep -o 'MLFLOW.*')
echo "without a callback: mlflow imported ${without#MLFLOW }"
echo "with a callback that does nothing: mlflow imported ${with#MLFLOW }"
[ "$without $with" = "MLFLOW False MLFLOW True" ]
