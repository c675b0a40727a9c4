"""Files that are there as a whole or not at all, and what tells one from another."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Of the file's name. With the rest of the temporary one it stays within the 255 bytes of a name.
_N_CHARACTERS = 40


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place at the end, or vanishes after an error.

    It is made at once: that a folder cannot be written is known before the work begins. Its name
    is new, so that no file of that name can be lost.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; name a file.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r}.")
    name = f".{path.name[:_N_CHARACTERS]}.{secrets.token_hex(8)}.tmp"
    temporary = path.with_name(name)
    try:
        # Unlike the files of `tempfile`, it may be read by whoever may read new files here.
        temporary.touch(exist_ok=False)
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
        raise OSError(error.errno, reason, str(path)) from error
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
