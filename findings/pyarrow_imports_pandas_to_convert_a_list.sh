#!/usr/bin/env bash
# pyarrow 25.0.1 with pandas 3.1.1: the first array that is made of a Python list imports pandas where it is installed;
# importing pyarrow, pyarrow.compute and pyarrow.parquet does not. A command that makes no frame therefore waits for the
# import of pandas, 0.2 to 0.3 s, at its first `pa.array`. Without pandas the same calls work. With None in
# sys.modules["pandas"] they raise AttributeError, since pyarrow takes the None for the module.
#
# Output seen:
#   after importing pyarrow, pyarrow.compute, pyarrow.parquet: pandas imported False
#   after pa.array([1, 2, 3]): pandas imported True
#   with None in its place: AttributeError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==25.0.1 pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import sys

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

before = "pandas" in sys.modules
pa.array([1, 2, 3])
after = "pandas" in sys.modules
print("after importing pyarrow, pyarrow.compute, pyarrow.parquet: pandas imported", before)
print("after pa.array([1, 2, 3]): pandas imported", after)
if (before, after) != (False, True):
    raise SystemExit(1)
PY
"$folder/venv/bin/python" - <<'PY'
import sys

sys.modules["pandas"] = None
import pyarrow as pa

try:
    seen = str(pa.array([1, 2, 3]))
except AttributeError as error:
    seen = type(error).__name__
print("with None in its place:", seen)
raise SystemExit(seen != "AttributeError")
PY
