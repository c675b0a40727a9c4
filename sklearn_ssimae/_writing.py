"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place at the end, or vanishes after an error.

    It is made at once: that a folder cannot be written is known before the work begins.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; name a file.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r}.")
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.touch()
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
        raise OSError(error.errno, reason, str(path)) from error
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
