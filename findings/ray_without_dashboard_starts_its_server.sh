#!/usr/bin/env bash
# ray 2.60.0: `ray.init(include_dashboard=False, log_to_driver=False)` on one machine, all of whose resources are fixed,
# starts three Python processes all the same: the dashboard's server (with fewer of its modules), the reader of log files
# for the driver, and the monitor of the autoscaler. No argument of `ray.init` leaves them out. Each imports ray, which
# takes about a second of a processor; on two cores that is time that the first workers lack.
#
# Output seen:
#   dashboard/dashboard.py: running True
#   _private/log_monitor.py: running True
#   autoscaler/_private/monitor.py: running True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ray==2.60.0 psutil==7.2.2
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import logging

import psutil
import ray

SERVICES = ("dashboard/dashboard.py", "_private/log_monitor.py", "autoscaler/_private/monitor.py")
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
commands = [" ".join(process.cmdline()) for process in psutil.Process().children()]
ray.shutdown()
running = [any(service in command for command in commands) for service in SERVICES]
for service, is_running in zip(SERVICES, running, strict=True):
    print(f"{service}: running {is_running}")
raise SystemExit(not all(running))
PY
