"""The gate: whatever X is becomes an array, a table or a list of images, or one clear error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from sklearn_ssimae._images.files import is_path, is_picture

# Channels of grey and colour images, the latter with and without alpha.
_CHANNELS = (1, 3, 4)
# Sides from which on an axis is height or width, and no axis of channels.
_LEAST_SIDE = 8

_WANTED = (
    "Give an array (n, h, w) or (n, h, w, c), or a list of arrays (h, w) or (h, w, c), of PIL "
    "images, or of paths of image files"
)


def plain(X: Any) -> Any:
    """X as an array, a table of numbers, or a sequence of images and paths.

    Tensors become arrays, a column of paths becomes a list, and so do objects with a length and
    an index that hold images. What is left alone is for scikit-learn to judge.

    Raises
    ------
    TypeError
        For what is no sequence: iterators, sets, mappings, bytes, a single picture. For a list
        of bytes.
    ValueError
        For images whose channels come first, for a single colour image, and for an empty list.
    """
    _check_container(X)
    _check_content(X)
    if isinstance(X, torch.Tensor):
        _check_axes(X, "X.permute(0, 2, 3, 1)")
        return to_array(X)
    if hasattr(X, "shape"):
        X = _unpack_paths(X)
        if hasattr(X, "shape"):
            _check_axes(X, "X.transpose(0, 2, 3, 1)")
        return X
    if not isinstance(X, (list, tuple, str)) and _is_sequence(X):
        X = _unpack_sequence(X)
    return X


def to_array(item: Any) -> np.ndarray:
    """An array of an array-like, or of a tensor of any device and dtype."""
    if isinstance(item, torch.Tensor):
        tensor = item.detach().cpu()
        # NumPy has no such type.
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return np.asarray(item)


def check_item(item: Any, label: str) -> None:
    """Refuse an image (c, h, w) of a sequence."""
    shape = np.shape(item)
    if len(shape) == 3 and shape[0] in _CHANNELS and min(shape[1:]) >= _LEAST_SIDE:
        is_tensor = isinstance(item, torch.Tensor)
        raise ValueError(
            f"{label} has the shape {tuple(shape)}: its channels come first. Give (h, w, c): "
            f"image.{'permute' if is_tensor else 'transpose'}(1, 2, 0)."
        )


def check_not_one_image(X: Any, *, learnt_from_rows: bool, n_channels: int) -> None:
    """Refuse a single image where a detector takes several.

    Parameters
    ----------
    X : object
        What `plain` returned.
    learnt_from_rows : bool
        Whether the detector reads two axes as rows.
    n_channels : int
        Of the images that it learnt from.
    """
    shape = tuple(np.shape(X)) if hasattr(X, "shape") else ()
    is_colour = len(shape) == 3 and n_channels > 1 and shape[2] == n_channels
    if (len(shape) == 2 and not learnt_from_rows) or is_colour:
        raise ValueError(
            f"X is one image, shape {shape}, and several are expected. Give X[None] for the one "
            "image. Flattened rows are read after a fit on rows, or where image_shape is set."
        )


def _check_container(X: Any) -> None:
    kind = type(X).__name__
    if is_picture(X):
        raise TypeError("X is one PIL image. Give a list of them, [X].")
    if isinstance(X, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"X is a {kind} object. Decode it first: PIL.Image.open(io.BytesIO(X)). {_WANTED}."
        )
    if isinstance(X, Mapping) and not hasattr(X, "shape"):  # sparse matrices of keys
        raise TypeError(
            f"X is a {kind}, which has no order of images. {_WANTED}: list(X.values())."
        )
    is_array = hasattr(X, "__array__") or hasattr(X, "shape")  # sparse matrices have a shape
    if isinstance(X, Iterable) and not hasattr(X, "__getitem__") and not is_array:
        raise TypeError(
            f"X is a {kind}, and images are needed more than once and by their number. {_WANTED}: "
            "list(X) if it holds these; the batches of a loader, torch.cat([b for b in X]), "
            "with the axes (n, h, w, c)."
        )


def _check_content(X: Any) -> None:
    """Refuse what holds nothing, or bytes, which may be names of files or what is in them."""
    shape = getattr(X, "shape", None)
    if (isinstance(X, (list, tuple)) and len(X) == 0) or shape == (0,):
        raise ValueError(
            f"X is an empty {type(X).__name__}. Give one image or more. If a pattern of file "
            "names made it, no file matched."
        )
    first = X[0] if isinstance(X, (list, tuple)) else None
    if shape and 0 not in shape and len(shape) <= 2 and _may_hold_text(X):
        first = np.asarray(X).flat[0]
    if isinstance(first, bytes):
        raise TypeError(
            "X holds bytes objects. Of names of files give texts: [os.fsdecode(name) for name in "
            "X]. Of the contents of files give images: [PIL.Image.open(io.BytesIO(content)) for "
            "content in X]."
        )


def _check_axes(X: Any, permuted: str) -> None:
    """Refuse arrays of which an axis is no height, no width and not the last one of channels."""
    shape = tuple(X.shape)
    if len(shape) == 4 and shape[1] in _CHANNELS and min(shape[2:]) >= _LEAST_SIDE:
        raise ValueError(
            f"X has the shape {shape}: its channels come first. Give (n, h, w, c): {permuted}."
        )
    if len(shape) == 3 and shape[2] in _CHANNELS and min(shape[:2]) >= _LEAST_SIDE:
        raise ValueError(
            f"X has the shape {shape}, which looks like one image (h, w, c). Give X[None] for "
            f"that, or X[..., None] if it is {shape[0]} grey images of width {shape[2]}."
        )


def _unpack_paths(X: Any) -> Any:
    """A table of one column of paths as a list; other tables as they are."""
    if len(X.shape) != 2 or 0 in X.shape or not _may_hold_text(X):
        return X
    values = np.asarray(X)
    if not any(is_path(value) for value in values[0]):
        return X
    if values.shape[1] == 1:
        return list(values[:, 0])
    columns = list(getattr(X, "columns", range(values.shape[1])))
    raise ValueError(
        f"X is a table of {values.shape[1]} columns, {columns}, that holds text. For paths of "
        "image files give the one column that holds them, X[column]."
    )


def _may_hold_text(X: Any) -> bool:
    dtype = getattr(X, "dtype", None)  # a table has none
    return dtype is None or getattr(dtype, "kind", "O") in "OUST"


def _is_sequence(X: Any) -> bool:
    is_sized = hasattr(X, "__len__") and hasattr(X, "__getitem__")
    return is_sized and not hasattr(X, "__array__") and not hasattr(X, "__array_interface__")


def _unpack_sequence(X: Any) -> list[Any]:
    """The images of an object with a length and an index, such as a torch Dataset."""
    items = [X[index] for index in range(len(X))]
    if not all(map(_is_image, items)):
        raise TypeError(
            f"X is a {type(X).__name__} whose items are no images, but of the type "
            f"{type(items[0]).__name__}. {_WANTED}, such as [X[i][0] for i in range(len(X))]; "
            "tensors (c, h, w) as .permute(1, 2, 0)."
        )
    return items


def _is_image(item: Any) -> bool:
    is_array = hasattr(item, "ndim") and item.ndim >= 2
    return is_path(item) or is_picture(item) or is_array
