"""A sweep as a job on a running Ray cluster: submitted, and followed if wanted; the job does not need its follower."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from memsweep.results.storage.location import Location, ObjectPath, location
from memsweep.run.launch_options import LaunchOptions

MODE = "RAY_AUTH_MODE"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EXCLUDES = [".git", ".venv", "results", "data", "__pycache__", ".*_cache"]
"""Excluded from the submitted folder, besides the files that git ignores."""
RESPONSE_SECONDS = 10.0
"""Longest wait for a response of the cluster."""
LOOK_SECONDS = 2.0
"""Between status requests for a job whose log stream broke."""


class ClusterError(Exception):
    """A cluster can't be used; the message gives the reason and the fix."""


class Job:
    """A launch on a cluster, identified by Ray's submission id."""

    def __init__(self, client: Any, address: str, name: str):
        self.client = client
        self.address = address
        self.name = name
        self._shown = 0  # characters of the log

    def follow(self, show: Callable[[str], None]) -> bool:
        """Shows the job's log until the job ends; returns whether it succeeded. Interrupting it does not stop the job.

        show: called with each new piece of the log.  Raises ClusterError when the cluster stops responding.
        """
        silent_since = None
        while True:
            try:
                asyncio.run(self._tail(show))
                status = self.client.get_job_status(self.name)
                silent_since = None
            except (ConnectionError, RuntimeError, OSError) as error:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > RESPONSE_SECONDS:
                    raise ClusterError(
                        f"{self.address} no longer responds ({error}). The job may still run: {self.commands}. If the "
                        "head node is gone, submit again: only the missing trials run."
                    ) from error
                status = None
            if status is not None and status.is_terminal():
                return str(status) == "SUCCEEDED"
            time.sleep(LOOK_SECONDS)

    async def _tail(self, show: Callable[[str], None]) -> None:
        """Shows the log from its beginning, skipping what was already shown before the stream broke."""
        position = 0
        async for text in self.client.tail_job_logs(self.name):
            fresh = text[max(0, self._shown - position) :]
            position += len(text)
            if fresh:
                show(fresh)
                self._shown = position

    @property
    def commands(self) -> str:
        """Returns the shell commands that follow and stop this job."""
        where = f"--address {self.address} {self.name}"
        return f"ray job logs --follow {where}, ray job stop {where}"


def submit(
    sweeps: Sequence[str],
    address: str,
    results: str,
    options: LaunchOptions,
    say: Callable[[str], None],
    *,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
) -> Job:
    """Submits `memsweep launch` with these sweeps and options to the cluster with this dashboard; returns the job.

    results: a location that all machines of the cluster can access.  say: called with warnings.
    overrides: values of --set.  folder: uploaded with the job, with the user's sweep files and modules; default: the
    current folder.  Raises ClusterError.
    """
    place = _shared(results)
    needs_token = requires_token(address)
    if not needs_token and urlsplit(address).hostname not in LOOPBACK:
        say(
            f"Warning: {address} is on another machine and requires no token: anyone who can reach it can run "
            "programs there. Start Ray with RAY_AUTH_MODE=token, or bind its dashboard to 127.0.0.1."
        )
    with _authentication_mode(needs_token):  # Ray reads it as it is imported
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

    launch = ["python", "-m", "memsweep", "launch", *sweeps, "--results", str(place)]
    launch += [word for axis in overrides for word in ("--set", axis)] + replace(options, address="auto").words()
    name = f"memsweep-{Path(sweeps[0]).stem}-{secrets.token_hex(4)}"
    environment = {"working_dir": str(folder or Path.cwd()), "excludes": EXCLUDES}
    try:
        client = JobSubmissionClient(address)
        client.submit_job(entrypoint=shlex.join(launch), submission_id=name, runtime_env=environment)
    except AuthenticationError as error:
        raise ClusterError(
            f"{address}: the token is wrong or missing. Set the cluster's token in RAY_AUTH_TOKEN, in the file that "
            "RAY_AUTH_TOKEN_PATH names, or in ~/.ray/auth_token."
        ) from error
    except (ConnectionError, ImportError, LookupError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise ClusterError(f"{address}: the job was not accepted: {str(error).splitlines()[0]}") from error
    return Job(client, address, name)


@contextmanager
def _authentication_mode(needs_token: bool) -> Iterator[None]:
    """Sets the environment so that Ray sends its token only if needed; restores it afterwards."""
    before = os.environ.pop(MODE, None)
    if needs_token:
        os.environ[MODE] = "token"
    try:
        yield
    finally:
        os.environ.pop(MODE, None)
        if before is not None:
            os.environ[MODE] = before


def requires_token(address: str) -> bool:
    """Returns whether the dashboard at this address requires a token. Raises ClusterError."""
    if not address.startswith(("http://", "https://")):
        raise ClusterError(f"--address {address}: must be the address of a dashboard, such as http://127.0.0.1:8265.")
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/jobs/", timeout=RESPONSE_SECONDS):
            return False
    except urllib.error.HTTPError as error:
        if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return True
        raise ClusterError(f"{address} is not a Ray dashboard: it responds {error.code} {error.reason}.") from error
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"{address} does not respond ({getattr(error, 'reason', error)}). Is the cluster running? "
            "`ray dashboard cluster.yaml` forwards its dashboard to http://127.0.0.1:8265."
        ) from error


def _shared(results: str) -> Location:
    """Returns the location of results that all machines share. Raises ClusterError for a relative path."""
    place = location(results)
    if not isinstance(place, ObjectPath) and not Path(results).expanduser().is_absolute():
        raise ClusterError(
            f"--results {results}: the machines of a job do not share a relative path. Use s3://bucket/prefix, "
            "gs://bucket/prefix, or the absolute path of a folder that they share."
        )
    return place
