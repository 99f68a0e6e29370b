"""The file system that holds a folder: whether other machines share it, and whether its locks reach them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

MOUNTS = Path("/proc/self/mountinfo")
SHARED = {
    *("afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "ocfs2", "orangefs"),
    *("panfs", "pvfs2", "smb3", "smbfs", "wekafs"),
}
"""Types of file systems that several machines share; those of FUSE are added by their prefix."""
FUSE = "fuse."
LOCAL_FUSE = {"fuse.fuse-overlayfs", "fuse.squashfuse", "fuse.squashfuse_ll"}
"""Types of FUSE that containers put over a local disk."""
LOCAL_LOCKS = {"local_lock=all", "local_lock=flock", "localflock", "nobrl", "nolock"}
"""Options with which the locks of a shared file system hold on one machine alone."""


class Mount(NamedTuple):
    """An entry of the table of mounts."""

    point: Path
    kind: str  # type of the file system; empty: unknown
    options: frozenset[str] = frozenset()

    @property
    def is_shared(self) -> bool:
        """Returns whether other machines may write to it."""
        return self.kind in SHARED or (self.kind.startswith(FUSE) and self.kind not in LOCAL_FUSE)

    @property
    def local_locks(self) -> str:
        """Returns the option with which locks don't reach other machines; "": there is none."""
        return min(self.options & LOCAL_LOCKS, default="") if self.is_shared else ""


def mount_of(path: Path) -> Mount:
    """Returns the mount that holds a path, which need not exist; an empty kind where the system lists no mounts."""
    place, best = path.resolve(), Mount(Path("/"), "")
    try:
        lines = MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return best
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, (kind, *rest) = left.split(" "), right.split(" ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        if place.is_relative_to(point) and len(point.parts) >= len(best.point.parts):  # a later mount hides an earlier
            best = Mount(point, kind, frozenset(",".join([fields[5], *rest[1:]]).split(",")))
    return best
