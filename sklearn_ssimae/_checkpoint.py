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
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from sklearn_ssimae._images import ImageCollection, StoredImages
from sklearn_ssimae._version import __version__

_MAGIC = b"sklearn-ssimae checkpoint\n"
_DIGEST_SIZE = 32
# Images of an array on disk that tell it from another; to read all may take hours.
_MAX_STORED = 1000

#: What a fit is to go on with, each point in words: parameters, data, start, version.
Identity = dict[str, str]


def differing_points(one: Identity, other: Identity) -> list[tuple[str, str, str]]:
    """The points in which two identities differ, with what either says of them."""
    return [
        (point, one.get(point, "not set"), other.get(point, "not set"))
        for point in dict.fromkeys([*one, *other])
        if one.get(point) != other.get(point)
    ]


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
        payload = stream.getbuffer()
        digest = hashlib.sha256(payload).digest()
        with _naming(self.path):
            _write_atomically(self.path, [_MAGIC, digest, payload])

    def remove(self) -> None:
        """Delete the file, if there is one, and what a killed fit may have left beside it."""
        if self.path is not None:
            with _naming(self.path):
                self.path.unlink(missing_ok=True)
                _temporary(self.path).unlink(missing_ok=True)


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


def describe_fit(detector: Any, images: ImageCollection, seeds: list[int], start: str) -> Identity:
    """What the result of a fit depends on, point by point.

    Parameters
    ----------
    detector : BaseDetector
    images : ImageCollection
        The images to learn from.
    seeds : list of int
        What `random_state` yielded; it describes a generator, which has no other name.
    start : str
        The network that training starts from.
    """
    identity = {"sklearn_ssimae": __version__, "detector": type(detector).__name__}
    for name, value in sorted(detector.get_params(deep=False).items()):
        if name in {"checkpoint", "verbose"}:  # they change nothing that is learnt
            continue
        is_generator = name == "random_state" and not isinstance(value, (Integral, type(None)))
        drawn = f"a generator that draws {seeds}"
        identity[name] = drawn if is_generator else describe_value(value)
    return {**identity, **describe_images(images), "the network at the start": start}


def describe_value(value: Any) -> str:
    """A parameter in words that are the same for equal values, in every process."""
    if isinstance(value, nn.Module):
        return f"{type(value).__name__} with the weights {digest_of_network(value)}"
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    if isinstance(value, (tuple, list, np.ndarray)):
        return f"({', '.join(map(describe_value, value))})"
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        return repr(int(number) if number.is_integer() else number)
    return repr(value)


def digest_of_network(network: nn.Module) -> str:
    """A short name of a network's weights."""
    return digest_of_tensors(network.state_dict())


def digest_of_tensors(tensors: dict[str, Any]) -> str:
    """A short name of the values of tensors."""
    hashed = hashlib.blake2b(digest_size=8)
    for name, tensor in tensors.items():
        hashed.update(name.encode())
        if isinstance(tensor, torch.Tensor):
            array = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            hashed.update(array.numpy().data)
    return hashed.hexdigest()


def describe_images(images: ImageCollection) -> Identity:
    """The training images in a few words, cheap for very many files.

    Files are told by name, size and time of the last change, and are not read; arrays by
    all their values, but arrays that are not in memory by those of 1000 images.
    """
    names, files, values = (hashlib.blake2b(digest_size=8) for _ in range(3))
    shapes: set[str] = set()
    indices = np.arange(len(images))
    if isinstance(images.items, StoredImages) and len(images) > _MAX_STORED:
        indices = np.linspace(0, len(images) - 1, _MAX_STORED).astype(int)
    for index in indices.tolist():
        item = images.items[index] if images.kind == "sequence" else None
        if isinstance(item, (str, os.PathLike)):
            found = os.stat(item)
            names.update(os.fsencode(item) + b"\0")
            files.update(f"{found.st_size} {found.st_mtime_ns}\n".encode())
        else:
            array = np.ascontiguousarray(images[index])
            kind = f"{array.shape} {array.dtype.str}"
            shapes.add(kind)
            values.update(kind.encode())
            values.update(array.view(np.uint8).data)
    kinds = ", ".join(sorted(shapes)[:3]) + (", ..." if len(shapes) > 3 else "")
    return {
        "the number of images": str(len(images)),
        "the shapes and dtypes of the images": kinds or "those of files",
        "the names of the image files (as a hash)": names.hexdigest(),
        "sizes and times of the image files (as a hash)": files.hexdigest(),
        "the values of the images (as a hash)": values.hexdigest(),
    }


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
