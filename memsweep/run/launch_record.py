"""What a launch ran: a row of the table `launches`, with its command, versions, sweep files, and the user's code."""

from __future__ import annotations

import json
import platform
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from memsweep.results.storage.store import Store
from memsweep.run.rounds.launch_code import LaunchCode
from memsweep.run.worker import provenance
from memsweep.spec.sweep import Sweep

DIFF_BYTES = 1 << 18
"""Most bytes of the difference between the user's tree and its commit."""
GIT_SECONDS = 10.0
_SECRET_FILES = ("*.env", "*.env.*", "*.pem", "*.key", "*credentials*", "*secret*", "*token*")
"""Files that the stored difference leaves out."""
_PASSWORD = re.compile(r"(?<=://)[^/@\s]*@")


def write(sweeps: Sequence[Sweep], code: LaunchCode, store: Store) -> None:
    """Stores the row of a launch."""
    sources = dict(sweep.source for sweep in sweeps if sweep.source)
    user_files = [Path(file) for part in code.codes.values() for file in part.files]
    home = [*user_files, *sources, Path.cwd() / "-"][0]
    row = {
        "launch": uuid.uuid4().hex[:16],
        "launched_at": datetime.now(UTC),
        "sweeps": ",".join(sweep.name for sweep in sweeps),
        "command": _PASSWORD.sub("", shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        "host": platform.node(),
        "memsweep_version": metadata.version("memsweep"),
        "python_version": platform.python_version(),
        "packages": "\n".join(sorted({f"{package.name}=={package.version}" for package in metadata.distributions()})),
        "sweep_files": json.dumps({str(path): text for path, text in sources.items()}),
        "code": json.dumps({part.fingerprint: part.parts for part in code.codes.values() if part.fingerprint}),
        "code_commit": provenance.commit_of(home) if home.is_file() else None,
        "code_diff": _difference(home.parent),
    }
    store.write("launches", [row])


def _difference(folder: Path) -> str | None:
    """Returns `git diff HEAD` of the checkout that holds this folder, cut to DIFF_BYTES; None: no checkout."""
    without = [f":(exclude,icase){pattern}" for pattern in _SECRET_FILES]
    command = ["git", "-C", str(folder), "diff", "HEAD", "--no-color", "--no-ext-diff", "--", ":/", *without]
    try:
        answer = subprocess.run(command, capture_output=True, check=True, timeout=GIT_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    text = answer.stdout.decode(errors="replace")
    return text if len(text) <= DIFF_BYTES else f"{text[:DIFF_BYTES]}\n(cut; {len(text)} characters in all)\n"
