"""What must agree for a fit to go on from a file, or with other processes, in words."""

from __future__ import annotations

import hashlib
import os
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import nn

from sklearn_ssimae._images.collection import ImageCollection, StoredImages
from sklearn_ssimae._version import __version__

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
    if isinstance(value, np.ndarray) and value.ndim > 1:
        digest = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=8)
        return f"an array {value.shape} of {value.dtype}, {digest.hexdigest()}"
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
