"""Input: whatever X holds, as a sequence of images, and results back in X's container.

An image is an array (h, w, c) of the dtype it came in. Files are read when an image is
asked for, and are not kept.
"""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.utils.validation import check_array

from sklearn_ssimae._images.containers import check_item, to_array
from sklearn_ssimae._images.files import (
    is_path,
    is_picture,
    opaque_pixels,
    read_file,
    read_picture,
)

Kind = Literal["rows", "array", "sequence"]

# From so many rows of so many features on, rows may be the lines of one image.
_LEAST_LINES = 64


class ImageCollection(Sequence[np.ndarray]):
    """The n images of X, checked one at a time as they are taken.

    Parameters
    ----------
    images : array of shape (n, h, w, c), StoredImages, or sequence of arrays and paths
        Arrays in the sequence have the shape (h, w) or (h, w, c).
    kind : {"rows", "array", "sequence"}
        The container that results are returned in.
    has_channel_axis : bool, default=True
        Whether the images of an array came with an axis of channels.
    marks : callable, default=None
        Index to the pixels (h, w) that y marks as defects. None: no pixel is marked.
    """

    def __init__(
        self,
        images: Sequence[Any] | np.ndarray,
        kind: Kind,
        has_channel_axis: bool = True,
        marks: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        self._images = images
        self.kind = kind
        self.has_channel_axis = has_channel_axis
        self._marks = marks

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> Any:
        image = self._images[index]
        if self.kind == "sequence":
            return _read(image, index)
        return np.asarray(image)

    @property
    def items(self) -> Sequence[Any] | np.ndarray:
        """Arrays and paths as they came, unread and unchecked."""
        return self._images

    def name(self, index: int) -> str:
        """What to call an image in a message."""
        return _name(self._images[index], index)

    def digest(self, index: int) -> bytes:
        """Equal for equal arrays, and for files of equal bytes, which are not decoded."""
        item = self._images[index]
        if is_path(item):
            with open(item, "rb") as file:
                return hashlib.file_digest(file, "blake2b").digest()
        image = np.ascontiguousarray(self[index])
        kind = f"{image.shape} {image.dtype.str}".encode()
        return hashlib.blake2b(kind + image.tobytes()).digest()

    def short_digests(self, indices: Iterable[int]) -> np.ndarray:
        """The first eight bytes of the digests of some images, as uint64 (n,)."""
        return np.array([int.from_bytes(self.digest(i)[:8], "little") for i in indices], np.uint64)

    def counts(self, index: int) -> np.ndarray | None:
        """Which pixels of an image count, (h, w): opaque ones, unmarked by y. None for all."""
        item = self._images[index] if self.kind == "sequence" else None
        opaque = opaque_pixels(item) if is_path(item) or is_picture(item) else None
        marked = None if self._marks is None else self._marks(index)
        if marked is None or not marked.any():
            return opaque
        return ~marked if opaque is None else opaque & ~marked

    def with_marks(self, marks: Callable[[int], np.ndarray]) -> ImageCollection:
        """The same images, with pixels that y marks."""
        return ImageCollection(self._images, self.kind, self.has_channel_axis, marks)

    def take(self, indices: np.ndarray) -> ImageCollection:
        """The images at `indices`, in that order, without reading one."""
        images: Any
        if isinstance(self._images, StoredImages):
            images = self._images.take(indices)
        elif isinstance(self._images, np.ndarray):
            images = self._images[indices]
        else:
            images = [self._images[i] for i in indices]
        marks = self._marks
        taken = None if marks is None else lambda index: marks(int(indices[index]))
        return ImageCollection(images, self.kind, self.has_channel_axis, taken)

    def is_readable(self, index: int) -> bool:
        """Whether an image can (still) be read."""
        try:
            self[index]
        except OSError:
            return False
        return True

    def pack(self, maps: Iterable[np.ndarray]) -> Any:
        """Maps (h, w), one an image, in the container that X came in."""
        results = list(maps)
        if self.kind == "sequence":
            return results
        stacked = np.stack(results)
        return stacked.reshape(len(stacked), -1) if self.kind == "rows" else stacked

    def pack_images(self, images: Iterable[np.ndarray]) -> Any:
        """Images (h, w, c) in the container and with the axes that X came in."""
        return self.pack(
            image if self.kind == "rows" or self._has_channels(index, image) else image[..., 0]
            for index, image in enumerate(images)
        )

    def _has_channels(self, index: int, image: np.ndarray) -> bool:
        if self.kind == "array":
            return self.has_channel_axis
        item = self._images[index]
        is_decoded = is_path(item) or is_picture(item)
        return image.shape[2] > 1 if is_decoded else np.ndim(item) == 3


class StoredImages(Sequence[np.ndarray]):
    """Images (h, w, c) of an array that is not in memory, read one at a time as they are taken.

    Parameters
    ----------
    array : object
        What `is_stored` accepts, with the images along the first axis.
    shape : (h, w, c)
        Of each image.
    indices : array of int, default=None
        Which images, in which order. None for all.
    """

    def __init__(
        self, array: Any, shape: tuple[int, ...], indices: np.ndarray | None = None
    ) -> None:
        self._array = array
        self._shape = shape
        self._indices = np.arange(array.shape[0]) if indices is None else indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        place = int(self._indices[index])
        return _check_values(np.asarray(self._array[place]), f"image {place}").reshape(self._shape)

    def take(self, indices: np.ndarray) -> StoredImages:
        return StoredImages(self._array, self._shape, self._indices[indices])


def is_stored(X: Any) -> bool:
    """Whether X is an array on disk or elsewhere: np.memmap, zarr, h5py, dask."""
    is_chunked = not isinstance(X, np.ndarray) and hasattr(X, "chunks") and hasattr(X, "dtype")
    return is_chunked or isinstance(X, np.memmap)


def is_image_stack(X: Any) -> bool:
    """Whether X is one array (n, h, w) or (n, h, w, c)."""
    return not _is_sequence_of_images(X) and _ndim(X) >= 3


def is_rows(X: Any) -> bool:
    """Whether X is to be read as flattened images, or is nothing that could be images."""
    return not _is_sequence_of_images(X) and _ndim(X) < 3


def stack_of_images(X: Any) -> tuple[ImageCollection, np.ndarray]:
    """Images of one array (n, h, w[, c]), and the same pixels as rows (n, h·w·c)."""
    array = np.asarray(X)
    _check_ndim(array)
    n_features = math.prod(array.shape[1:])
    rows = check_array(array.reshape(len(array), n_features), dtype="numeric", input_name="X")
    images = rows.reshape(*array.shape[:3], n_features // math.prod(array.shape[1:3]))
    return ImageCollection(images, "array", has_channel_axis=array.ndim == 4), rows


def stored_stack(array: Any) -> ImageCollection:
    """Images of one array (n, h, w[, c]) that is not in memory."""
    _check_ndim(array)
    _check_length(array)
    height, width, *channels = array.shape[1:]
    images = StoredImages(array, (height, width, *(channels or [1])))
    return ImageCollection(images, "array", has_channel_axis=array.ndim == 4)


def stored_rows(rows: Any, image_shape: tuple[int, ...]) -> ImageCollection:
    """Images of rows (n, n_features) that are not in memory."""
    _check_length(rows)
    return ImageCollection(StoredImages(rows, (*image_shape[:2], -1)), "rows")


def _check_ndim(array: Any) -> None:
    if array.ndim > 4:
        raise ValueError(
            f"X has {array.ndim} dimensions, shape {array.shape}. Give (n, h, w) grey or "
            "(n, h, w, c) colour images, (n, n_features) flattened rows, or a list of images."
        )


def _check_length(array: Any) -> None:
    if math.isnan(array.shape[0]):
        raise ValueError(
            f"X is an array of unknown length, shape {array.shape}. For a dask array, let the "
            "sizes be computed first: X.compute_chunk_sizes()."
        )
    if 0 in array.shape:
        raise ValueError(f"X holds no pixels, shape {array.shape}. Give one image or more.")


def images_of_rows(rows: np.ndarray, image_shape: tuple[int, ...]) -> ImageCollection:
    """Images of validated rows (n, n_features)."""
    height, width = image_shape[:2]
    return ImageCollection(rows.reshape(len(rows), height, width, -1), "rows")


def sequence_of_images(X: Any) -> ImageCollection:
    """Images of a sequence of arrays and paths. Missing files are found now, not later."""
    if isinstance(X, (str, os.PathLike)):
        raise ValueError(f"X is one path, {os.fspath(X)!r}. Give a list of paths.")
    items = list(X)
    for index, item in enumerate(items):
        if is_path(item):
            _check_file(item)
            continue
        if is_picture(item):
            continue
        if not 2 <= _ndim(item) <= 3:
            raise ValueError(
                f"image {index} has the shape {np.shape(item)}. Every image of a sequence "
                "must be an array (h, w) or (h, w, c), a PIL image, or the path of an image file."
            )
        check_item(item, f"image {index}")
    return ImageCollection(items, "sequence")


def _check_file(path: Any) -> None:
    name = os.fspath(path)
    if Path(path).is_dir():
        raise FileNotFoundError(
            f"{name} is a folder. Give the files in it: "
            f"sklearn_ssimae.datasets.list_images({name!r})."
        )
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {name}.")


def resolve_image_shape(image_shape: Any, n_features: int, n_rows: int = 1) -> tuple[int, ...]:
    """Shape of flattened rows: as given, else a square, else a strip of one line.

    Warns of rows that look like the lines of one image.
    """
    if image_shape is None:
        side = round(n_features**0.5)
        shape = (side, side) if side * side == n_features else (1, n_features)
        # Some rows are squares as well, but hardly as many as they have features.
        looks_like_lines = shape[0] == 1 or n_rows == n_features
        if looks_like_lines and min(n_rows, n_features) >= _LEAST_LINES:
            warnings.warn(
                f"X has the shape {(n_rows, n_features)} and is read as {n_rows} images of the "
                f"shape {shape}, one a row. If it is one image, give X[None]. If its rows are "
                f"flattened images, set image_shape, such as image_shape={shape}.",
                UserWarning,
                stacklevel=2,
            )
        return shape
    shape = tuple(image_shape)
    whole = all(isinstance(side, (int, np.integer)) and side >= 1 for side in shape)
    if len(shape) not in (2, 3) or not whole:
        raise ValueError(f"image_shape must be (h, w) or (h, w, c), got {image_shape!r}.")
    if np.prod(shape) != n_features:
        raise ValueError(
            f"X has {n_features} features, but image_shape={shape} takes {np.prod(shape)}."
        )
    return shape


def _ndim(item: Any) -> int:
    if hasattr(item, "ndim"):
        return int(item.ndim)
    try:
        return np.asarray(item).ndim
    except ValueError:  # lists of unequal lengths
        return 0


def _is_sequence_of_images(X: Any) -> bool:
    if is_path(X):
        return True
    if isinstance(X, (list, tuple)):
        return len(X) > 0 and (is_path(X[0]) or _is_image_array(X[0]))
    array_of_objects = _ndim(X) == 1 and getattr(X, "dtype", None) is not None and len(X) > 0
    if not array_of_objects:
        return False
    first = np.asarray(X)[0]
    return is_path(first) or _is_image_array(first)


def _is_image_array(item: Any) -> bool:
    return is_picture(item) or (hasattr(item, "ndim") and item.ndim >= 2)


def _name(item: Any, index: int) -> str:
    """What to call an image in a message: its file, or its number."""
    return os.fspath(item) if is_path(item) else f"image {index}"


def _read(item: Any, index: int) -> np.ndarray:
    label = _name(item, index)
    if is_path(item):
        image = read_file(item)
    else:
        image = read_picture(item, label) if is_picture(item) else to_array(item)
    if image.size == 0:
        raise ValueError(f"{label} has no pixels, shape {image.shape}.")
    return _check_values(image, label).reshape(*image.shape[:2], -1)


def _check_values(image: np.ndarray, label: str) -> np.ndarray:
    """The values of an image as numbers (1, n), none of them nan or infinite."""
    try:
        checked: np.ndarray = check_array(image.reshape(1, -1), dtype="numeric")
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error
    return checked
