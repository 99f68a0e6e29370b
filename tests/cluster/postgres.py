"""A PostgreSQL of the tests' own: on loopback, with a password; databases are made, wiped, and killed in the middle."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.processes import family, free_port, kill

USER, PASSWORD = "memsweep", "password-that-nobody-stores-5d1e"
_FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
BIN = _FOUND[-1] if _FOUND else Path(shutil.which("initdb") or "").parent
"""Where Debian has its programs, or the PATH."""


def is_here() -> bool:
    return (BIN / "initdb").is_file()


class Server:
    """One server, and the database that a test is about."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.database, self._count = "postgres", 0
        # it refuses to be run by root
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if not os.geteuid() else []
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if self._as:
            for path in (folder, secret):
                shutil.chown(path, "postgres")
        options = ["-U", USER, f"--pwfile={secret}", "--auth=scram-sha-256", "-E", "UTF8", "--no-sync"]
        subprocess.run([*self._as, BIN / "initdb", "-D", folder / "data", *options], check=True, capture_output=True)
        self.start()

    def renew(self, template: str = "template1") -> None:
        """From now on a test is about a database of its own, a copy of this one."""
        self._count += 1
        self.database = f"mlflow_{self._count}"
        self._administer(f"create database {self.database} template {template}")

    @property
    def uri(self) -> str:
        return self.behind(self.port)

    def behind(self, port: int) -> str:
        return f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{port}/{self.database}"

    def runs(self) -> int:
        """How many there are, whole or not; none before there are tables."""
        import psycopg

        with suppress(psycopg.Error):
            return int(self._administer("select count(*) from runs", database=self.database) or 0)
        return 0

    def start(self) -> None:
        words = ["-D", str(self.folder / "data"), "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*self._as, str(BIN / "postgres"), *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """All of it at once, as when the power fails."""
        kill(family(self.process.pid))
        self.process.wait()

    def wipe(self) -> None:
        """Whoever is connected is cut off, and nothing is left."""
        self._administer(f"drop database {self.database} with (force)")
        self._administer(f"create database {self.database}")

    def _administer(self, statement: str, database: str = "postgres") -> Any:
        """The first value of its answer."""
        import psycopg

        where = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD, "dbname": database}
        with psycopg.connect(**where, autocommit=True) as connection:
            answer = connection.execute(statement)
            return answer.fetchone()[0] if answer.description else None

    def _answers(self) -> bool:
        with suppress(Exception):
            self._administer("select 1")
            return True
        return False


@contextmanager
def serving() -> Iterator[Server]:
    """A server; its processes and files go with it."""
    folder = Path(tempfile.mkdtemp(prefix="memsweep-postgres-"))
    made = None
    try:
        made = Server(folder)
        yield made
    finally:
        if made is not None:
            with suppress(psutil.Error):
                made.kill()
        shutil.rmtree(folder, ignore_errors=True)
