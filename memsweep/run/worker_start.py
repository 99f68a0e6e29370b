"""Starts a worker of Ray without Ray's own program for it, which imports Ray once more (0.3 s).

Ray runs this file with the arguments of that program: a file, its arguments, the language and the runtime environment.
"""

import json
import os
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

ENVIRONMENT, LANGUAGE = "--serialized-runtime-env-context=", "--language="
NEEDS_RAY = ("command_prefix", "override_worker_entrypoint", "java_jars")
"""Parts of a runtime environment that Ray's program alone puts together."""


def main() -> None:
    """Replaces this process by the worker."""
    environment, language, rest = "{}", "", []
    for word in sys.argv[1:]:
        if word.startswith(ENVIRONMENT):
            environment = word.removeprefix(ENVIRONMENT)
        elif word.startswith(LANGUAGE):
            language = word.removeprefix(LANGUAGE)
        else:
            rest.append(word)
    context = json.loads(environment)
    variables = context.get("env_vars") or {}
    is_plain = not any(map(context.get, NEEDS_RAY)) and not any("$" in value for value in variables.values())
    python = context.get("py_executable") or sys.executable  # for Ray a part of a command, such as "uv run python"
    if language == "PYTHON" and is_plain and os.path.isabs(python) and os.access(python, os.X_OK):
        os.execve(python, [python, *rest], {**os.environ, **variables})
    _run_ray()


def _run_ray() -> None:
    """Runs Ray's own program, with the same arguments."""
    ray = find_spec("ray")
    assert ray is not None and ray.origin is not None
    runpy.run_path(str(Path(ray.origin).parent / "_private/workers/setup_worker.py"), run_name="__main__")


if __name__ == "__main__":
    main()
