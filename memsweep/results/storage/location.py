"""Locations of results: a folder on a local or shared disk, or a prefix in an object store (S3, GCS).

An `ObjectPath` implements the part of `pathlib.Path` that a results folder needs, through pyarrow's file systems, so
that most code treats both alike. Credentials come from the places that the provider's tools read, never from the
address, because tables, logs and messages contain the address.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

from pyarrow import ArrowException, Buffer, NativeFile, fs

SCHEMES = ("s3", "gs")
"""URI schemes of object stores."""
SECRETS = {"access_key", "secret_key", "session_token", "credentials", "json_credentials"}
"""Options that an address must not contain."""
PATIENCE_SECONDS = 120.0
"""How long a request is retried after temporary errors of an object store."""
GCS_PATIENCE_SECONDS = 10.0
"""How long the GCS library itself retries a request; its default is a quarter of an hour."""
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Approximate pauses between tries in seconds; the last pause is repeated."""
LASTING = ("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY", "SIGNATURE", "Bucket name", "HTTP status 403")
"""Parts of the messages of permanent errors, which are not retried."""

_Answer = TypeVar("_Answer")


class LocationError(Exception):
    """An address of results can't be used; the message gives the reason."""


class Stat(NamedTuple):
    """Size and age of an object, with the field names of `os.stat_result`."""

    st_size: int  # bytes
    st_mtime: float  # seconds since 1970, by the store's clock


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object, or a prefix of objects, in an object store. Writes are atomic. Methods follow `pathlib.Path`."""

    scheme: str
    key: str  # bucket and path
    query: str = ""  # options, as pyarrow's file systems take them: endpoint_override=localhost:9000&scheme=http
    # for GCS also anonymous=true: without credentials

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}" + (f"?{self.query}" if self.query else "")

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.scheme, f"{self.key}/{name}", self.query)

    @property
    def name(self) -> str:
        """Returns the last component of the key."""
        return PurePosixPath(self.key).name

    @property
    def stem(self) -> str:
        """Returns the name without its suffix."""
        return PurePosixPath(self.key).stem

    @property
    def suffix(self) -> str:
        """Returns the suffix of the name, with its dot."""
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> ObjectPath:
        """Returns the prefix that contains this path."""
        return ObjectPath(self.scheme, str(PurePosixPath(self.key).parent), self.query)

    def resolve(self) -> ObjectPath:
        """Returns the path itself, which is always absolute."""
        return self

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing: a prefix exists as soon as an object is below it."""

    def is_dir(self) -> bool:
        """Returns whether the path is a prefix of objects.  Raises OSError."""
        return bool(_patiently(self._info).type == fs.FileType.Directory)

    def is_file(self) -> bool:
        """Returns whether the path is an object.  Raises OSError."""
        return bool(_patiently(self._info).type == fs.FileType.File)

    def exists(self) -> bool:
        """Returns whether the path is an object or a prefix of objects.  Raises OSError."""
        return bool(_patiently(self._info).type != fs.FileType.NotFound)

    def stat(self) -> Stat:
        """Returns size and age.  Raises FileNotFoundError."""
        info = _patiently(self._info)
        if info.type == fs.FileType.NotFound:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return _stat(info)

    def open(self, mode: str = "rb") -> NativeFile:
        """Opens the object for reading with random access."""
        assert mode == "rb", mode
        return _patiently(lambda: self._system.open_input_file(self.key))

    def read_bytes(self) -> bytes:
        """Returns the content of the object, even if another process replaces it meanwhile.  Raises OSError.

        pyarrow reads as many bytes of a new object as the former had, so ETags are compared before and after;
        source: findings/pyarrow_cuts_an_object_that_is_replaced.sh.
        """

        def read() -> bytes:
            before, content = self._opened()
            with self._system.open_input_file(self.key) as again:
                if again.metadata() != before:
                    raise OSError(f"{self}: was replaced while it was read")
            return bytes(memoryview(content))

        return _patiently(read)

    def read_buffer(self) -> Buffer:
        """Returns the content of an object that is never replaced, in Arrow's memory.  Raises OSError."""
        return _patiently(lambda: self._opened()[1])

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Returns the content of the object as text.  Raises OSError."""
        return self.read_bytes().decode(encoding, errors)

    def write_bytes(self, content: Any) -> None:
        """Writes the object, with retries: writing the same content twice is harmless.  Raises OSError."""

        def write() -> None:
            with self._system.open_output_stream(self.key) as file:
                file.write(content)

        _patiently(write)

    def unlink(self, missing_ok: bool = False) -> None:
        """Deletes the object.  Raises FileNotFoundError if it does not exist, unless missing_ok."""

        def delete() -> None:
            try:
                self._system.delete_file(self.key)
            except FileNotFoundError:
                if not missing_ok:
                    raise

        _patiently(delete)

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """Yields objects whose names match; only the last component of the pattern may have wildcards."""
        yield from self.listed(pattern)

    def listed(self, pattern: str) -> dict[ObjectPath, Stat]:
        """Returns object -> size and age for the objects of `glob`, from a single listing."""
        folder, _, name = pattern.rpartition("/")
        infos = (self / folder if folder else self)._listing()
        stats = {ObjectPath(self.scheme, info.path, self.query): _stat(info) for info in infos if info.is_file}
        return {path: stat for path, stat in stats.items() if fnmatch.fnmatchcase(path.name, name)}

    def prefixes(self, pattern: str) -> list[str]:
        """Returns the names of the prefixes directly below this prefix that match, sorted."""
        names = [PurePosixPath(info.path).name for info in self._listing() if info.type == fs.FileType.Directory]
        return sorted(fnmatch.filter(names, pattern))

    def check(self) -> None:
        """Raises OSError, without retries, if the store does not answer or the bucket does not exist."""
        bucket = self.key.partition("/")[0]
        if self._system.get_file_info(bucket).type == fs.FileType.NotFound:
            raise FileNotFoundError(f"the bucket {bucket!r} does not exist, or the credentials do not allow listing it")

    def _listing(self) -> list[fs.FileInfo]:
        selector = fs.FileSelector(self.key, allow_not_found=True)
        return _patiently(lambda: self._system.get_file_info(selector))

    def _opened(self) -> tuple[Any, Buffer]:
        """Returns what the store says about the object, ETag and length, and then its content."""
        with self._system.open_input_file(self.key) as file:
            try:
                return file.metadata(), file.read_buffer()
            except ValueError as error:  # GCS: deleted after opening; the next try raises FileNotFoundError
                raise OSError(str(error)) from error

    def _info(self) -> fs.FileInfo:
        return self._system.get_file_info(self.key)

    @property
    def _system(self) -> fs.FileSystem:
        return _system(self.scheme, self.key.partition("/")[0], self.query)


Location = Path | ObjectPath


def location(results: str | Path | ObjectPath) -> Location:
    """Returns the location for an address: a path, s3://bucket/prefix or gs://bucket/prefix. Raises LocationError.

    A path becomes absolute, with ~ expanded, which shells do not expand in --results=~/folder.
    """
    if isinstance(results, ObjectPath):
        return results
    if "://" not in str(results):
        return Path(os.path.expanduser(results)).absolute()
    parts = urlsplit(str(results))
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
            raise LocationError(
                f"--results {results}: must be file:///path, with %23 for # and %3F for ?; or omit file://."
            )
        return Path(unquote(parts.path))
    if parts.scheme not in SCHEMES:
        raise LocationError(f"--results {_bare(parts)}: must be a folder, s3://bucket/prefix or gs://bucket/prefix.")
    if "@" in parts.netloc or SECRETS & parse_qs(parts.query).keys():
        raise LocationError(
            f"--results {_bare(parts)}: contains credentials, which would be stored with the results. Remove them, and "
            "set them where the provider's tools read them, e.g. in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    key = "/".join(part for part in (parts.netloc, *parts.path.split("/")) if part)
    if not parts.netloc or parts.fragment:
        raise LocationError(f"--results {results}: must be {parts.scheme}://bucket/prefix.")
    return ObjectPath(parts.scheme, key, parts.query)


def local_folder(place: Location) -> Path:
    """Returns the local folder for files that can't be in an object store: MLflow's database, logs."""
    return place.resolve() if isinstance(place, Path) else state_folder(place)


def state_folder(place: Location) -> Path:
    """Returns the user's folder for files that can't be stored beside these results; creates it."""
    folder = state_path(place)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def state_path(place: Location) -> Path:
    """Returns the path of `state_folder`, which need not exist."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    name = f"{re.sub('[?%]', '-', place.name)}-{hashlib.blake2b(str(place).encode(), digest_size=6).hexdigest()}"
    return state / "memsweep" / name


@contextmanager
def on_disk(path: Location) -> Iterator[Path]:
    """Yields a local path of the file: itself, or a temporary copy of an object."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="memsweep-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(path.read_bytes())
        yield copy


def sizes(folder: Location, pattern: str) -> dict[Location, int]:
    """Returns file -> bytes for files that match; files that are deleted meanwhile are skipped."""
    if isinstance(folder, ObjectPath):
        return {path: stat.st_size for path, stat in folder.listed(pattern).items()}
    bytes_of: dict[Location, int] = {}
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):
            bytes_of[path] = path.stat().st_size
    return bytes_of


def folders(place: Location, pattern: str) -> list[str]:
    """Returns the names of the folders, or of the prefixes of objects, directly below a place that match, sorted."""
    if isinstance(place, ObjectPath):
        return place.prefixes(pattern)
    return sorted(path.name for path in place.glob(pattern) if path.is_dir())


def _stat(info: fs.FileInfo) -> Stat:
    return Stat(info.size or 0, (info.mtime_ns or 0) / 1e9)


def _bare(parts: Any) -> str:
    """Returns an address without credentials and options."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@lru_cache
def _system(scheme: str, bucket: str, query: str) -> fs.FileSystem:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if scheme == "s3":
        options.setdefault("allow_delayed_open", "true")  # one request for a small object instead of three
    else:
        options.setdefault("retry_limit_seconds", str(GCS_PATIENCE_SECONDS))
        if options.pop("anonymous", "") == "true":
            bucket = f"anonymous@{bucket}"  # pyarrow's syntax
    try:
        return fs.FileSystem.from_uri(f"{scheme}://{bucket}" + (f"?{urlencode(options)}" if options else ""))[0]
    except (ArrowException, ValueError) as error:
        raise LocationError(f"{scheme}://{bucket}: {str(error).splitlines()[0]}") from error


def _patiently(act: Callable[[], _Answer]) -> _Answer:
    """Returns what `act` returns, and retries it after temporary errors. Raises the last OSError."""
    until = time.monotonic() + PATIENCE_SECONDS
    for pause in (*PAUSES, *(PAUSES[-1:] * int(PATIENCE_SECONDS))):
        try:
            return act()
        except (FileNotFoundError, PermissionError):
            raise
        except OSError as error:
            if any(text in str(error) for text in LASTING) or time.monotonic() + pause > until:
                raise
            time.sleep(pause * random.uniform(0.5, 1.0))
    raise AssertionError("the loop ends by a return or an error")
