"""Where torch caches compiled programs on this machine, and memsweep beside them; what their names are made of."""

from __future__ import annotations

import getpass
import hashlib
import os
import tempfile
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

_imported_at = time.time()


def folder() -> Path:
    """Returns memsweep's folder within torch's cache, so that both are deleted together; it may not exist yet."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers; torch names its folder so
        user = f"uid_{os.getuid()}"
    default = Path(tempfile.gettempdir(), f"torchinductor_{user}")
    return Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", default), "memsweep")


def source(rooms: Iterable[str]) -> str | None:
    """Returns a hash of memsweep's code in these folders; None where a file is younger than this process."""
    root, content = Path(__file__).parents[1], hashlib.blake2b(digest_size=16)
    for path in sorted(path for room in rooms for path in (root / room).rglob("*.py")):
        if path.stat().st_mtime > _imported_at:
            return None
        content.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return content.hexdigest()


def processor(names: Collection[str]) -> list[str]:
    """Returns the lines of these names that the system has on the first processor; not every system has them."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text("utf-8")
        return [line for line in text.partition("\n\n")[0].splitlines() if line.partition(":")[0].strip() in names]
    return []
