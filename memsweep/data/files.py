"""Pools of the user's files and folders, `file:PATH`: numbers their labels as classes, and checks their content."""

from __future__ import annotations

from functools import lru_cache

from memsweep.data import readers
from memsweep.data.examples import Columns
from memsweep.data.numbering import Pool, Source, numbered
from memsweep.data.texts import DataError
from memsweep.spec.contents import content_of, path_of
from memsweep.spec.fields.groups import Data

FIXES = {
    "column": "store one column of labels",
    "one_hot": "of one-hot rows store the number of the class",
    "short": "store a label for each example",
    "other": "store whole numbers or texts",
}
SOURCE = Source("store", FIXES)


def pool_of_file(data: Data) -> Pool:
    """Returns the pool of a file or folder; the same object while its content and the columns are the same.

    Raises DataError.
    """
    return _pool(data.task, Columns(data.label, data.split, data.noise_label), data.content or content_of(data.task))


def forget() -> None:
    """Clears the cache."""
    _pool.cache_clear()


@lru_cache(maxsize=4)
def _pool(task: str, columns: Columns, content: str) -> Pool:
    where = f"data.task = {task!r}"
    try:
        examples = readers.read(path_of(task), columns)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    now = content_of(task, again=True)  # after reading, so that a change while it is read is seen
    if now != content:
        raise DataError(
            f"{where}: the hash of its content is {now or 'gone'}, and the trial's is {content}: it has changed since "
            "the launch began, or differs between machines. Restore it, or launch again: with other content, a trial "
            "is another trial."
        )
    return numbered(where, examples, SOURCE, content)
