"""What y says: masks of defects, or a label for each image.

`learnable` is the one rule for which images may be learnt from. Masks come as an array
(n, h, w) or (n, h, w, 1), or as a sequence of arrays (h, w) of several sizes; a sequence
is any object with a length and an index, so that masks can be read when they are needed.
"""

from __future__ import annotations

import math
import os
import warnings
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_auc_score

from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.containers import to_array
from sklearn_ssimae._images.files import IMAGE_SUFFIXES, is_path
from sklearn_ssimae.metrics import Images, as_mask, pixel_roc_auc_score

# From so many pixels on, rows are images and no table of something else.
_LEAST_PIXELS = 64


def is_masks(y: Any) -> bool:
    """Whether y holds masks: an array of three or four axes, or a sequence of images."""
    return _are_masks(unpack(y))


def good_images(y: Any, n_images: int) -> np.ndarray:
    """Which images y allows to learn from.

    Parameters
    ----------
    y : None, or array-like of shape (n,), or masks
        A label of -1 marks a defective image, and so does a mask with any True pixel.
        Anything else marks none: other labels, text, and arrays of shape (n, k), which
        could be targets of any meaning.
    n_images : int
        Number n of images.

    Returns
    -------
    good : bool ndarray of shape (n,)

    Raises
    ------
    ValueError
        If y is not of length n, or a mask holds other values than 0 and 1.
    """
    y = unpack(y)
    if isinstance(y, np.ndarray) and y.ndim == 0:  # None, or a scalar
        return np.ones(n_images, dtype=bool)
    check_length(y, n_images)
    if _are_masks(y):
        return np.array([not as_mask(y[i], i, "y").any() for i in range(n_images)], dtype=bool)
    if y.ndim > 1:
        return np.ones(n_images, dtype=bool)
    _refuse_paths(y)
    if y.dtype.kind == "O":
        is_defect = [isinstance(label, Real) and label == -1 for label in y]
        return ~np.array(is_defect, dtype=bool)
    return np.asarray(y != -1)


def learnable(y: Any, maps: Images) -> np.ndarray:
    """Which images y allows to learn from, by `good_images`; it must fit them.

    Parameters
    ----------
    y : object
        As in `good_images`. Binary rows of as many values as an image has pixels are masks.
    maps : array, or sequence
        As in `check_mask_shapes`.

    Returns
    -------
    good : bool ndarray of shape (n,)

    Raises
    ------
    ValueError
        As `good_images` and `check_mask_shapes`.
    """
    y = masks_of_rows(y, maps)
    good = good_images(y, len(maps))
    check_mask_shapes(y, maps)
    warn_of_zeros_and_ones(y, maps)
    return good


def good_images_of(images: ImageCollection, y: Any) -> ImageCollection:
    """The images that y allows to learn from, of which masks may mark a part.

    Raises
    ------
    ValueError
        As `learnable`, and if y leaves nothing.
    """
    # The items of a sequence, so that no file is read for its size.
    maps = images.items if images.kind == "sequence" else images
    good, masks = learnable(y, maps), masks_of_rows(y, maps)
    if not is_masks(masks):
        return _taken(images, good)
    masks = unpack(masks)

    def marks(index: int) -> np.ndarray:
        return as_mask(masks[index], index, "y")

    is_left = good.copy()
    for index in np.flatnonzero(~good).tolist():
        is_left[index] = not marks(index).all()
    return _taken(images.with_marks(marks), is_left)


def wholly_good_images_of(images: ImageCollection, y: Any) -> ImageCollection:
    """The images that y marks nowhere; errors as of `good_images_of`."""
    return _taken(images, learnable(y, images.items if images.kind == "sequence" else images))


def _taken(images: ImageCollection, good: np.ndarray) -> ImageCollection:
    if not good.any():
        raise ValueError(
            f"y marks all {len(images)} images as defective, so there is none to learn "
            "from. Add good images: label them other than -1, or give them empty masks."
        )
    return images if good.all() else images.take(np.flatnonzero(good))


def check_length(y: Any, n_images: int) -> None:
    """Refuse a y of another length than X."""
    if len(y) != n_images:
        raise ValueError(
            f"y has {len(y)} entries for {n_images} images. Give a label or a mask for each."
        )


def check_mask_shapes(y: Any, maps: Images) -> None:
    """Refuse masks of other shapes than their maps; y may also hold labels.

    Parameters
    ----------
    y : object
        As in `good_images`, and of the length of `maps`.
    maps : array of shape (n, h, w) or (n, n_features), or sequence of arrays (h, w)
        The images, with or without an axis of channels, or whatever else has their shapes.
        Rows need masks of as many pixels. Paths of files fit any mask: their sizes are not
        known before they are read.

    Raises
    ------
    ValueError
        With the index of the first mask that differs.
    """
    y = unpack(y)
    if not _are_masks(y):
        return
    for index in range(len(y)):
        shape, expected = _height_and_width(y[index]), _height_and_width(maps[index])
        is_path, is_row = len(expected) == 0, len(expected) == 1
        if is_path or shape == expected or (is_row and np.prod(shape) == expected[0]):
            continue
        raise ValueError(
            f"y[{index}] has the shape {shape}, but image {index} has {expected}. "
            "A mask must have the height and width of its image."
        )


def masks_of_rows(y: Any, maps: Images) -> Any:
    """What `unpack` returns; masks that are flattened, (n, n_pixels), get a height and a width.

    They are told from targets of other meanings by their values, 0 and 1, and by their length:
    that of the image's pixels, or of all its channels.
    """
    y = unpack(y)
    is_table = isinstance(y, np.ndarray) and y.ndim == 2 and y.dtype.kind in "buif"
    if not is_table or len(y) != len(maps) or 0 in y.shape or not np.isin(y, (0, 1)).all():
        return y
    shape = np.shape(maps[0])
    if len(shape) == 1:
        shape = (1, *shape)
    if y.shape[1] < 2:
        return y
    if y.shape[1] == math.prod(shape[:2]):
        return y.reshape(len(y), *shape[:2])
    if len(shape) == 3 and y.shape[1] == math.prod(shape):
        return y.reshape(len(y), *shape).any(axis=3)
    return y


def in_shape_of(maps: Any, masks: Images) -> Images:
    """Maps; those that are rows (n, h·w) take the shapes of their masks.

    Raises
    ------
    ValueError
        With the index of the first row that has not as many pixels as its mask.
    """
    if not hasattr(maps, "__array__"):
        return maps
    maps = np.asarray(maps)
    # The metric has the message for lengths that differ.
    if maps.ndim != 2 or len(maps) != len(masks):
        return maps
    check_mask_shapes(masks, maps)
    return [row.reshape(_height_and_width(masks[index])) for index, row in enumerate(maps)]


def score_maps(maps: Any, y: Any) -> float:
    """What detectors return as ``score``: the ROC AUC of pixels for masks, of images for labels.

    Parameters
    ----------
    maps : array of shape (n, h, w) or (n, h·w), or sequence of n arrays (h, w)
        Residual maps. The value of an image is the largest of its map.
    y : masks, or array-like of shape (n,)
        As in `good_images`: a label of -1 marks a defective image, any other a good one.

    Returns
    -------
    auc : float
        nan, with an UndefinedMetricWarning, if y holds one class alone.
    """
    if hasattr(maps, "__array__"):  # of rows it may be a data frame
        maps = np.asarray(maps)
    y = masks_of_rows(y, maps)
    if is_masks(y):
        return pixel_roc_auc_score(y, in_shape_of(maps, y))
    good = good_images(y, len(maps))
    if good.all() or not good.any():
        warnings.warn(
            f"The ROC AUC needs good and defective images, but y marks {np.sum(~good)} of "
            f"{len(good)} images as defective. A label of -1 marks a defective image, any other "
            "value a good one; masks mark defects by True. The score is nan.",
            UndefinedMetricWarning,
            stacklevel=3,
        )
        return math.nan
    return float(roc_auc_score(~good, [np.max(values) for values in maps]))


def warn_of_zeros_and_ones(y: Any, maps: Images) -> None:
    """Warn of labels by which 1, or 0, probably stands for a defect."""
    y = unpack(y)
    if _are_masks(y) or y.ndim != 1 or y.dtype.kind not in "buif":
        return
    if set(np.unique(y).tolist()) != {0, 1}:
        return
    shape = np.shape(maps[0])
    # Paths have no shape. Rows of a few features are no images.
    if shape == () or math.prod(shape) >= _LEAST_PIXELS:
        warnings.warn(
            "y holds the labels 0 and 1, and neither marks a defect: every image counts as good. "
            "A label of -1 marks a defective image. If 1 stands for one, give "
            "np.where(np.equal(y, 1), -1, 1).",
            UserWarning,
            stacklevel=2,
        )


def unpack(y: Any) -> Any:
    """The sequence y itself if it holds images, else an array.

    Array-likes are converted here, once: they may refuse every other function of NumPy.
    """
    if hasattr(y, "__array__"):
        y = to_array(y)
        if y.dtype.kind != "O" or y.ndim != 1:
            return y
    is_sized = hasattr(y, "__len__") and hasattr(y, "__getitem__")
    holds_images = is_sized and len(y) > 0 and np.ndim(y[0]) >= 2
    # Of an array of objects, a list: an array is never a sequence of images.
    return (list(y) if isinstance(y, np.ndarray) else y) if holds_images else np.asarray(y)


def _refuse_paths(y: np.ndarray) -> None:
    """Labels may be text, but files of masks would be taken for good images."""
    for index, item in enumerate(y):
        item = os.fsdecode(item) if isinstance(item, bytes) else item
        is_text = isinstance(item, str)
        if is_path(item) and (not is_text or Path(item).suffix.lower() in IMAGE_SUFFIXES):
            raise ValueError(
                f"y[{index}] is a path, {os.fspath(item)!r}. Give the masks themselves: "
                "[np.asarray(PIL.Image.open(path)) > 0 for path in y]."
            )


def _are_masks(y: Any) -> bool:
    """As `is_masks`, of what `unpack` returned."""
    return not isinstance(y, np.ndarray) or y.ndim >= 3


def _height_and_width(image: Any) -> tuple[int, ...]:
    return np.shape(image)[:2]
