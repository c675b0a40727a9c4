"""Defects drawn into images of good material."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sklearn_ssimae.datasets._drawing import MIN_SIDE, PAINTERS, draw_defect, one_state_each


def add_synthetic_defects(
    images: Any,
    *,
    kinds: Sequence[str] = ("scratch", "stain", "dent", "thread", "patch"),
    n_defects: int = 2,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[Any, Any]:
    """Draw defects into images of good material.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, c), or sequence of arrays
        Good images, floating point in [0, 1], uint8 or uint16. The arrays of a sequence
        have the shape (h, w) or (h, w, c) and any sizes. Sides are at least 16 pixels.
    kinds : sequence of str, default=("scratch", "stain", "dent", "thread", "patch")
        What to draw; each defect is of a kind drawn from these.

        - "scratch": a thin, tapered, slightly curved line with a bright or dark flank.
        - "stain": a lighter or darker, in colour images tinted, blot with soft edges.
        - "dent": the texture bulges or shrinks around a point, lit from one side.
        - "thread": a strand that curls over the texture and casts a shadow.
        - "patch": a piece of the image from elsewhere, turned and resized.
    n_defects : int, default=2
        Defects an image gets, at least 1. Their size is relative to the image's.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same defects each time.

    Returns
    -------
    images : ndarray or list of arrays
        Copies with defects, of the input's shapes and dtype; a list for a sequence.
    masks : ndarray of shape (n, h, w) or list of arrays of shape (h, w), bool
        True on the defects: pixels where a channel changed by 3 % of the range or more,
        and gaps between them within the defect. All other pixels are exactly the input's.

    Raises
    ------
    TypeError
        When the dtype is none of those above.
    ValueError
        When values, shapes or parameters are out of range, or no visible defect could be
        drawn: flat images show no dent and no patch.

    Examples
    --------
    >>> from skimage.data import brick
    >>> from sklearn_ssimae.datasets import add_synthetic_defects
    >>> good = brick().reshape(2, 256, 512)
    >>> images, masks = add_synthetic_defects(good, kinds=["stain"], random_state=0)
    >>> bool((images != good)[~masks].any()), images.dtype
    (False, dtype('uint8'))
    """
    chosen = _check_kinds(kinds)
    if n_defects < 1:
        raise ValueError(f"n_defects must be at least 1, got {n_defects!r}.")
    originals = [_check_image(image, index) for index, image in enumerate(images)]
    if not originals:
        raise ValueError("images holds no image.")
    results, masks = [], []
    states = one_state_each(random_state, len(originals))
    for index, (image, random) in enumerate(zip(originals, states, strict=True)):
        canvas = image.reshape(*image.shape[:2], -1).astype(np.float64) / _white(image)
        mask = np.zeros(image.shape[:2], dtype=bool)
        for _ in range(n_defects):
            canvas, drawn = draw_defect(canvas, chosen, random, index)
            mask |= drawn
        pixels = canvas.reshape(image.shape) * _white(image)
        if image.dtype.kind == "u":
            pixels = np.rint(pixels)
        result = image.copy()
        result[mask] = pixels[mask]
        results.append(result)
        masks.append(mask)
    if isinstance(images, np.ndarray):
        return np.array(results), np.array(masks)
    return results, masks


def _check_kinds(kinds: Sequence[str]) -> list[str]:
    known = ", ".join(map(repr, PAINTERS))
    if isinstance(kinds, str) or len(kinds) == 0:
        raise ValueError(f"kinds must be a list of names out of {known}, got {kinds!r}.")
    for kind in kinds:
        if kind not in PAINTERS:
            raise ValueError(f"kinds holds {kind!r}, which is none of {known}.")
    return list(kinds)


def _white(image: np.ndarray) -> float:
    return float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else 1.0


def _check_image(image: Any, index: int) -> np.ndarray:
    array = np.asarray(image)
    if array.dtype.kind != "f" and array.dtype not in (np.uint8, np.uint16):
        raise TypeError(
            f"image {index} must be floating point in [0, 1], uint8 or uint16, got {array.dtype}."
        )
    if array.ndim not in (2, 3) or min(array.shape[:2]) < MIN_SIDE or array.size == 0:
        raise ValueError(
            f"image {index} must have the shape (h, w) or (h, w, c) with sides of at least "
            f"{MIN_SIDE} pixels, got {array.shape}."
        )
    if array.dtype.kind == "f" and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"image {index} holds values in [{array.min():g}, {array.max():g}]. "
            "Bring them to [0, 1] first."
        )
    return array
