"""A PostgreSQL of the tests' own: on loopback, with a password, and to be killed, started again or wiped."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.cluster.machines import family, free_port, kill

USER, PASSWORD = "memsweep", "password-that-nobody-stores-5d1e"
_FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
BIN = _FOUND[-1] if _FOUND else Path(shutil.which("initdb") or "").parent
"""Where Debian has its programs, or the PATH."""


def is_here() -> bool:
    return (BIN / "initdb").is_file()


class Database:
    """One server with a database `mlflow`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.uri = self.at(self.port)
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
        self._administer("create database mlflow")

    def at(self, port: int) -> str:
        """Its URI behind another port."""
        return f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{port}/mlflow"

    def start(self) -> None:
        words = ["-D", self.folder / "data", "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*self._as, BIN / "postgres", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
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
        self._administer("drop database mlflow with (force)", "create database mlflow")

    def _administer(self, *statements: str) -> None:
        import psycopg

        where = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD, "dbname": "postgres"}
        with psycopg.connect(**where, autocommit=True) as connection:  # type: ignore[arg-type]
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]

    def _answers(self) -> bool:
        with suppress(Exception):
            self._administer("select 1")
            return True
        return False


@contextmanager
def serving() -> Iterator[Database]:
    """A server; its processes and files go with it."""
    folder = Path(tempfile.mkdtemp(prefix="memsweep-postgres-"))
    made = None
    try:
        made = Database(folder)
        yield made
    finally:
        if made is not None:
            with suppress(psutil.Error):
                made.kill()
        shutil.rmtree(folder, ignore_errors=True)
