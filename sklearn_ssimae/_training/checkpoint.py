"""Checkpoints: the state of a training in a file, from which a killed fit goes on.

A file holds a magic word, a digest of the rest, and what `torch.save` makes of tensors,
numbers, strings and containers of them. It is read with ``weights_only=True``, which can run
no code, and only if the digest is right.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from sklearn_ssimae._training.identity import Identity, differing_points

_MAGIC = b"sklearn-ssimae checkpoint\n"
_DIGEST_SIZE = 32


class Checkpoint:
    """The file of one fit, while it is locked; without a path, a file that is not wanted.

    Parameters
    ----------
    path : Path or None
    identity : dict of str
        What must agree if a fit is to go on from the file.
    """

    def __init__(self, path: Path | None, identity: Identity) -> None:
        self.path = path
        self.identity = identity

    def load(self) -> dict[str, Any] | None:
        """The state last saved, on the CPU; None if there is none.

        Raises
        ------
        ValueError
            If the file is damaged or no checkpoint, or if it is one of another fit; the
            message says where they differ.
        """
        if self.path is None or not self.path.exists():
            return None
        content = _unpack(self.path)
        differences = [
            f"{point} was {then}, now is {now}"
            for point, then, now in differing_points(content["identity"], self.identity)
        ]
        if differences:
            raise ValueError(
                f"The checkpoint {os.fspath(self.path)!r} belongs to another fit: "
                f"{'; '.join(differences)}. Go on with what it was made with, or delete the file "
                "to train from the start, or set another checkpoint. A folder as checkpoint "
                "keeps a file for each fit."
            )
        state: dict[str, Any] = content["state"]
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file's state at once: a reader finds the old one or the new one, whole.

        Raises
        ------
        OSError
            If the file cannot be written. The old one is still there.
        """
        if self.path is None:
            return
        stream = io.BytesIO()
        torch.save({"identity": self.identity, "state": state}, stream)
        # Released here also after an error, which may outlive this call and keep the stream.
        with stream.getbuffer() as payload, _naming(self.path):
            digest = hashlib.sha256(payload).digest()
            _write_atomically(self.path, [_MAGIC, digest, payload])

    def remove(self) -> None:
        """Delete the file, if there is one, and what a killed fit may have left beside it."""
        if self.path is not None:
            with _naming(self.path):
                self.path.unlink(missing_ok=True)
                _temporary(self.path).unlink(missing_ok=True)


def read_identity(path: Path) -> Identity:
    """What a checkpoint's fit must agree with; errors as those of `Checkpoint.load`."""
    identity: Identity = _unpack(path)["identity"]
    return identity


@contextmanager
def open_checkpoint(
    where: str | os.PathLike[str] | None, name: str, describe: Callable[[], Identity]
) -> Iterator[Checkpoint]:
    """The checkpoint of a fit, which no other fit can open at the same time.

    Parameters
    ----------
    where : path or None
        The file; or an existing folder, in which every identity has a file of its own;
        or None for no checkpoint.
    name : str
        Starts the names of files in a folder.
    describe : callable
        Returns the identity of the fit.

    Raises
    ------
    ValueError
        If another fit has the file open.
    OSError
        If the folder is missing or cannot be written.
    """
    if where is None:
        yield Checkpoint(None, {})
        return
    identity = describe()
    path = Path(where)
    if path.is_dir():
        path /= f"{name}-{_digest(json.dumps(identity, sort_keys=True).encode())}.checkpoint"
    lock_path = path.with_name(f"{path.name}.lock")
    is_missing_folder = os.fspath(where).endswith(("/", os.sep)) and not Path(where).is_dir()
    if is_missing_folder or not path.parent.is_dir():
        raise FileNotFoundError(
            f"The folder of checkpoint={os.fspath(where)!r} does not exist. Make it first."
        )
    lock = FileLock(lock_path)
    with _naming(path):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(
                f"Another fit is writing the checkpoint {os.fspath(path)!r}. Wait for it, or set "
                "another checkpoint. Fits that run at once, as in a search with n_jobs, need an "
                "existing folder as checkpoint: each has a file of its own in it."
            ) from error
    try:
        yield Checkpoint(path, identity)
    finally:
        # While it is still locked: whoever waits for it finds that the file has no name any more.
        with suppress(OSError):
            lock_path.unlink()
        lock.release()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _unpack(path: Path) -> dict[str, Any]:
    with _naming(path):
        content = path.read_bytes()
    remedy = "Restore a copy of it, delete it to train from the start, or set another checkpoint."
    if not content.startswith(_MAGIC) and not _MAGIC.startswith(content):
        raise ValueError(f"{os.fspath(path)!r} is no checkpoint of a detector. {remedy}")
    digest = content[len(_MAGIC) : len(_MAGIC) + _DIGEST_SIZE]
    payload = memoryview(content)[len(_MAGIC) + _DIGEST_SIZE :]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError(
            f"The checkpoint {os.fspath(path)!r} is damaged: its {len(content)} bytes are not "
            f"those that were written. {remedy}"
        )
    try:
        unpacked: dict[str, Any] = torch.load(
            io.BytesIO(payload), map_location="cpu", weights_only=True
        )
    except Exception as error:  # a right digest over what this version cannot read
        raise ValueError(
            f"The checkpoint {os.fspath(path)!r} cannot be read ({type(error).__name__}). {remedy}"
        ) from error
    return unpacked


def _temporary(path: Path) -> Path:
    # The lock on `path` makes this name ours alone.
    return path.with_name(f"{path.name}.tmp")


def _write_atomically(path: Path, parts: list[Any]) -> None:
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()  # it may be what fills the disk
        raise
    if os.name != "nt":  # Windows opens no folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the operating system with the checkpoint's name and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"The checkpoint cannot be read or written ({error.strerror or error}). Make room "
            "or set another checkpoint, and call fit again; file",
            os.fspath(path),
        ) from error
