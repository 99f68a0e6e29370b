"""Where torch caches compiled programs on this machine, and memsweep beside them."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path


def folder() -> Path:
    """Returns memsweep's folder within torch's cache, so that both are deleted together; it may not exist yet."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers; torch names its folder so
        user = f"uid_{os.getuid()}"
    default = Path(tempfile.gettempdir(), f"torchinductor_{user}")
    return Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", default), "memsweep")
