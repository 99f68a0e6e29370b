#!/usr/bin/env bash
# ray 2.60.0: ray.init of a local cluster asks at once whether its own raylet is registered, when it never is, and then
# sleeps a whole second in native code before each further question. The raylet is registered after about half a second
# (on a slow machine after several), so that ray.init waits up to a second for nothing. In each of five starts, Ray has its
# answer just after a whole second, whenever the raylet was registered, which a thread that asks every 10 ms observes.
#
# Output seen:
#   registered after 2.21 s, answered after 3.02 s
#   registered after 1.45 s, answered after 2.03 s
#   registered after 1.66 s, answered after 2.03 s
#   registered after 1.76 s, answered after 2.02 s
#   registered after 2.20 s, answered after 3.01 s
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ray[tune]==2.60.0"
cd "$folder"
cat > start.py <<'PY'
import threading
import time

import ray
from ray._private import services
from ray._raylet import GcsClient

ask, seen = services.get_node, {}


def look(client):
    while not client.get_all_node_info(timeout=30):
        time.sleep(0.01)
    seen["registered"] = time.monotonic()


def timed(gcs_address, node_id):
    seen["asked"] = time.monotonic()
    looker = threading.Thread(target=look, args=(GcsClient(address=gcs_address),))
    looker.start()
    node = ask(gcs_address, node_id)
    seen["answered"] = time.monotonic()
    looker.join()
    return node


services.get_node = timed
ray.init(address="local", include_dashboard=False, num_cpus=1, logging_level="ERROR")
print("SECONDS", seen["registered"] - seen["asked"], seen["answered"] - seen["asked"])
ray.shutdown()
PY
export RAY_USAGE_STATS_ENABLED=0
for _ in 1 2 3 4 5; do
  "$folder/venv/bin/python" start.py 2> /dev/null | sed -n "s/^SECONDS//p" >> seconds.txt
done
"$folder/venv/bin/python" - <<'PY'
rows = [tuple(map(float, line.split())) for line in open("seconds.txt")]
for registered, answered in rows:
    print(f"registered after {registered:.2f} s, answered after {answered:.2f} s")
is_whole = len(rows) == 5 and all(answered > 1 and answered % 1 < 0.25 for _, answered in rows)
raise SystemExit(not (is_whole and max(answered - registered for registered, answered in rows) > 0.2))
PY
