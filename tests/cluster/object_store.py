"""An object store on loopback that can be told to answer errors for a while: moto's S3, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TROUBLE = "/trouble/"
SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
SECRET = "secret-that-nobody-stores-3f7a"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key-that-nobody-stores-91c2",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Server:
    """What a test knows of the store: where it is."""

    def __init__(self, port: int):
        self.address = f"http://127.0.0.1:{port}"
        self.environment = {**ENVIRONMENT, "AWS_ENDPOINT_URL": self.address}

    def fail_for(self, seconds: float) -> None:
        """From now on it answers 503 to everybody, for so long."""
        with urllib.request.urlopen(f"{self.address}{TROUBLE}{seconds}"):
            pass

    def client(self):
        import boto3

        keys = [ENVIRONMENT[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")]
        names = ("aws_access_key_id", "aws_secret_access_key", "region_name")
        return boto3.client("s3", endpoint_url=self.address, **dict(zip(names, keys, strict=True)))


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A store with a bucket `bucket`."""
    told = folder / "port"
    command = [sys.executable, "-m", "tests.cluster.object_store", str(told)]
    with (
        open(folder / "object_store.log", "wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT}) as process,
    ):
        try:
            until = time.monotonic() + 120
            while not told.exists():
                assert process.poll() is None and time.monotonic() < until, (folder / "object_store.log").read_text()
                time.sleep(0.05)
            server = Server(int(told.read_text()))
            server.client().create_bucket(Bucket="bucket")
            yield server
        finally:
            process.terminate()


def main(told: Path) -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    store = DomainDispatcherApplication(create_backend_app)
    until = 0.0

    def answer(environ, start_response):
        nonlocal until
        path = environ["PATH_INFO"]
        if path.startswith(TROUBLE):
            until = time.monotonic() + float(path.removeprefix(TROUBLE))
        elif time.monotonic() < until:
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [SLOW_DOWN]
        else:
            return store(environ, start_response)
        start_response("200 OK", [])
        return [b""]

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    temporary = told.with_suffix(".tmp")
    temporary.write_text(str(server.port))
    temporary.rename(told)
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
