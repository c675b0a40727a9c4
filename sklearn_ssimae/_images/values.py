"""Values: what stands for black and white, and images as the planes that a network sees."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._maps.filters import resize

DataRange = tuple[float, float]

# Beyond it float32, in which networks compute, comes to its end: differences overflow.
_MAX_VALUE = 1e30
# Largest value of an image whose range is mapped to [0, 1]. The fourth powers in the SSIM,
# and the squares over small variances elsewhere, stay finite.
_MAX_UNIT = 1e6


class Preparation(NamedTuple):
    """How images become what a network sees: planes (c, h, w), their range mapped to [0, 1].

    Parameters
    ----------
    data_range : (low, high)
    scale : float
        Factor by which images are resized.
    n_channels : int
        Of every image.
    """

    data_range: DataRange
    scale: float
    n_channels: int

    def __call__(self, image: np.ndarray, name: str) -> Tensor:
        """Planes (c, h', w'), float32, of an image (h, w, c); `name` is for messages."""
        self.check_channels(image.shape[2], name)
        tensor = to_tensor(image, self.data_range, self.scale)
        if not tensor.abs().max() <= _MAX_UNIT:
            low, high = self.data_range
            raise ValueError(
                f"{name} holds values in [{image.min():g}, {image.max():g}], too far from those "
                f"that stand for black and white, [{low:g}, {high:g}]. Bring the images to that "
                "range, or set data_range."
            )
        return tensor

    def check_channels(self, n_channels: int, name: str) -> None:
        """Refuse images of another number of channels than those learnt from."""
        if n_channels != self.n_channels:
            raise ValueError(
                f"{name} has {n_channels} channels, but the detector learns from images of "
                f"{self.n_channels}."
            )


def resolve_data_range(data_range: Any, images: ImageCollection) -> DataRange:
    """The values (low, high) that stand for black and white.

    As given; else the range of the dtype for 8 and 16-bit integers, [0, 1] for boolean images
    and for others that lie in it; else the least and greatest value of all images.
    """
    if data_range is not None:
        return _check_data_range(data_range)
    dtype = images[0].dtype
    if dtype.kind == "u" and dtype.itemsize <= 2:
        images.check_dtype(dtype)
        return 0.0, float(np.iinfo(dtype).max)
    bounds = [(image.min(), image.max()) for image in images]
    low, high = float(min(b[0] for b in bounds)), float(max(b[1] for b in bounds))
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if max(abs(low), abs(high)) > _MAX_VALUE:
        raise ValueError(
            f"The images hold values in [{low:g}, {high:g}]. Divide them, so that none is beyond "
            f"{_MAX_VALUE:g}."
        )
    # A range of constant images has no length; any will do that float64 can tell from none.
    return (low, high) if low < high else (low, low + max(1.0, 1e-6 * abs(low)))


def _check_data_range(data_range: Any) -> DataRange:
    try:
        low, high = (float(bound) for bound in data_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not -_MAX_VALUE <= low < high <= _MAX_VALUE:
        raise ValueError(
            "data_range must be two finite numbers (low, high), low < high, none beyond "
            f"{_MAX_VALUE:g}, got {data_range!r}."
        )
    return low, high


def warn_if_out_of_range(name: str, image: np.ndarray, data_range: DataRange) -> bool:
    """Warn of an image whose values cannot be on the scale learnt in fit."""
    low, high = data_range
    least, greatest = float(image.min()), float(image.max())
    # A brighter lamp may exceed the range somewhat; another unit exceeds it many times, or
    # is lost in it.
    exceeds = least < 2 * low - high or greatest > 2 * high - low
    is_lost = image.dtype.kind == "f" and low == 0 and 0 < greatest <= 1 and high >= 255
    if not (exceeds or is_lost):
        return False
    warnings.warn(
        f"{name} holds values in [{least:g}, {greatest:g}], but the detector was "
        f"fitted on [{low:g}, {high:g}]. Bring the images to that range, or set data_range.",
        UserWarning,
        stacklevel=4,
    )
    return True


def to_tensor(image: np.ndarray, data_range: DataRange, scale: float) -> Tensor:
    """An image (h, w, c) as float32 (c, h, w), its range mapped to [0, 1], resized."""
    low, high = data_range
    # Integers and large offsets lose digits in float32 before the subtraction, not after.
    exact: Any = (
        np.float64 if image.dtype.itemsize > 2 and image.dtype != np.float32 else np.float32
    )
    with np.errstate(all="ignore"):  # what overflows is not finite, and refused as too large
        unit: np.ndarray = (image.astype(exact, copy=False) - exact(low)) / exact(high - low)
        planes = np.ascontiguousarray(unit.transpose(2, 0, 1), dtype=np.float32)
    tensor = torch.from_numpy(planes)
    if scale == 1:
        return tensor
    height, width = (max(1, round(side * scale)) for side in tensor.shape[1:])
    return resize(tensor, (height, width), antialias=scale < 1)


def output_dtype(image: np.ndarray) -> np.dtype:
    """float64 in, float64 out; float32 otherwise."""
    return np.dtype(np.float64 if image.dtype == np.float64 else np.float32)
