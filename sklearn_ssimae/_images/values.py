"""Values: what stands for black and white, and images as the planes that a network sees."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._maps.counting import resized_counts, with_counts
from sklearn_ssimae._maps.filters import resize

DataRange = tuple[float, float]

# Beyond it float32, in which networks compute, comes to its end: differences overflow.
_MAX_VALUE = 1e30
# Largest value of an image whose range is mapped to [0, 1]. The fourth powers in the SSIM,
# and the squares over small variances elsewhere, stay finite.
_MAX_UNIT = 1e6
# Of types whose whole range is used: bytes, 16-bit integers, and floats in [0, 1].
_FULL_RANGES = ((0.0, 1.0), (0.0, 255.0), (0.0, 65535.0))
# Cameras that store their values in 16 bits.
_FEWER_BITS = (8, 10, 12, 14)
_MAX_LOOKED_AT = 100
# Values of an image that is made smaller that are held as floats at once.
_BAND = 2**23


class Preparation(NamedTuple):
    """How images become what a network sees: planes (c, h, w), their range mapped to [0, 1].

    Parameters
    ----------
    data_range : (low, high)
    scale : float
        Factor by which images are resized.
    n_channels : int
        Of every image.
    is_given : bool, default=False
        Whether the user gave the range, which then holds for images of every type.
    region : bool array of shape (h, w), default=None
        The pixels that count in every image; None for all.
    """

    data_range: DataRange
    scale: float
    n_channels: int
    is_given: bool = False
    region: np.ndarray | None = None

    def of(self, images: ImageCollection, index: int) -> Tensor:
        """Planes of an image: those of `with_counts` where some of its pixels do not count."""
        return self.read(images[index], images, index)[1]

    def read(
        self, image: np.ndarray, images: ImageCollection, index: int
    ) -> tuple[np.ndarray | None, Tensor]:
        """What counts of an image that was taken from its collection, and its planes as of `of`."""
        counts = self.counts(images, index, image.shape[:2])
        return counts, self.counting(self(image, images.name(index)), counts)

    def counts(
        self, images: ImageCollection, index: int, size: tuple[int, ...]
    ) -> np.ndarray | None:
        """Which pixels of an image of that size count, (h, w); None for all."""
        name, own = images.name(index), images.counts(index)
        if own is not None and own.shape != size:
            raise ValueError(
                f"The mask of {name} has the shape {own.shape}, and the image has {tuple(size)}. "
                "A mask must have the height and width of its image."
            )
        region = self.region_of(name, size)
        return own if region is None else region if own is None else region & own

    def region_of(self, name: str, size: tuple[int, ...]) -> np.ndarray | None:
        """The region of an image of that size, (h, w); None for all of it."""
        if self.region is not None and self.region.shape != size:
            raise ValueError(
                f"region has the shape {self.region.shape}, and {name} has {tuple(size)}. A region "
                "is for images of one size: crop or resize the images, or give a region of theirs."
            )
        return self.region

    def counting(self, planes: Tensor, counts: np.ndarray | None) -> Tensor:
        """Planes at the network's scale, with what counts of the image at its own."""
        if counts is None or counts.all():
            return planes
        return with_counts(planes, self.inside(counts, (planes.shape[1], planes.shape[2])))

    def inside(self, counts: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """What counts at the network's scale: pixels in which nothing else takes part."""
        whole = torch.from_numpy(counts)[None]
        return resized_counts(whole, size, antialias=self.scale < 1)[0].numpy()

    def __call__(self, image: np.ndarray, name: str) -> Tensor:
        """Planes (c, h', w'), float32, of an image (h, w, c); `name` is for messages."""
        self.check_channels(image.shape[2], name)
        low, high = data_range = self.range_of(image, name)
        tensor = to_tensor(image, data_range, self.scale)
        least, greatest = tensor.aminmax()
        if not max(-least, greatest) <= _MAX_UNIT:
            raise ValueError(
                f"{name} holds values in [{image.min():g}, {image.max():g}], too far from those "
                f"that stand for black and white, [{low:g}, {high:g}]. Bring the images to that "
                "range, or set data_range."
            )
        return tensor

    def range_of(self, image: np.ndarray, name: str) -> DataRange:
        """What stands for black and white in an image, which may be of another type.

        Where the training images had the full range of their type, so have others: 8 bits,
        16 bits and floats in [0, 1] are read alike.

        Raises
        ------
        ValueError
            For values that cannot be in the unit of a learnt range.
        """
        if self.is_given:
            return self.data_range
        if self.data_range in _FULL_RANGES:
            full = full_range(image)
            if full is not None:
                return full
        if is_far_out(image, self.data_range):
            raise ValueError(_far_out(name, image, self.data_range))
        return self.data_range

    def in_learnt_range(self, pixels: np.ndarray, image: np.ndarray, name: str) -> np.ndarray:
        """Pixels in the unit of an image, in that of `data_range`."""
        (low, high), (black, white) = self.data_range, self.range_of(image, name)
        if (low, high) == (black, white):
            return pixels
        unit = (pixels.astype(np.float64) - black) / (white - black)
        return unit * (high - low) + low

    def warn_if_out_of_range(self, name: str, image: np.ndarray) -> bool:
        """Warn of an image that lies far outside a given range, which holds all the same."""
        if not (self.is_given and is_far_out(image, self.data_range)):
            return False
        warnings.warn(_far_out(name, image, self.data_range), UserWarning, stacklevel=4)
        return True

    def check_channels(self, n_channels: int, name: str) -> None:
        """Refuse images of another number of channels than those learnt from."""
        if n_channels != self.n_channels:
            raise ValueError(
                f"{name} has {n_channels} channels, but the detector learns from images of "
                f"{self.n_channels}."
            )


def resolve_data_range(data_range: Any, images: ImageCollection) -> DataRange:
    """The values (low, high) that stand for black and white.

    As given; else the range of the dtype if the first image is of 8 or 16-bit integers, [0, 1]
    for boolean images and for others that lie in it; else the least and greatest value of all.
    """
    if data_range is not None:
        return _check_data_range(data_range)
    first = images[0]
    if _is_unsigned(first):
        if first.dtype.itemsize == 2:
            _warn_of_fewer_bits(images)
        return 0.0, float(np.iinfo(first.dtype).max)
    bounds, unsigned = [], []
    for index, image in enumerate(images):
        if _is_unsigned(image):
            unsigned.append(index)
        else:
            bounds.append((image.min(), image.max()))
    low, high = float(min(b[0] for b in bounds)), float(max(b[1] for b in bounds))
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if unsigned:
        image = images[unsigned[0]]
        raise ValueError(
            f"{images.name(unsigned[0])} is of {image.dtype}, which has the range "
            f"[0, {np.iinfo(image.dtype).max}], and others, such as {images.name(0)} of "
            f"{first.dtype}, hold values in [{low:g}, {high:g}], so their values mean different "
            "things. Convert the images to one dtype, or set data_range."
        )
    if max(abs(low), abs(high)) > _MAX_VALUE:
        raise ValueError(
            f"The images hold values in [{low:g}, {high:g}]. Divide them, so that none is beyond "
            f"{_MAX_VALUE:g}."
        )
    # A range of constant images has no length; any will do that float64 can tell from none.
    return (low, high) if low < high else (low, low + max(1.0, 1e-6 * abs(low)))


def full_range(image: np.ndarray) -> DataRange | None:
    """Black and white of an image that has the full range of its type, if that can be told."""
    if _is_unsigned(image):
        return 0.0, float(np.iinfo(image.dtype).max)
    is_unit = image.dtype.kind in "bf" and image.min() >= 0 and image.max() <= 1
    return (0.0, 1.0) if is_unit else None


def is_far_out(image: np.ndarray, data_range: DataRange) -> bool:
    """Whether an image's values cannot be in the unit of a range."""
    low, high = data_range
    least, greatest = float(image.min()), float(image.max())
    # A brighter lamp may exceed the range somewhat; another unit exceeds it many times, or
    # is lost in it.
    exceeds = least < 2 * low - high or greatest > 2 * high - low
    is_lost = not _is_unsigned(image) and low >= 0 and high >= 255 and 0 < greatest <= high / 200
    return exceeds or is_lost


def _is_unsigned(image: np.ndarray) -> bool:
    return image.dtype.kind == "u" and image.dtype.itemsize <= 2


def _far_out(name: str, image: np.ndarray, data_range: DataRange) -> str:
    return (
        f"{name}, of {image.dtype}, holds values in [{image.min():g}, {image.max():g}], but the "
        f"detector was fitted on [{data_range[0]:g}, {data_range[1]:g}]. Bring the images to that "
        "range, or set data_range."
    )


def _warn_of_fewer_bits(images: ImageCollection) -> None:
    """Warn of cameras of 12 bits or so, whose white is far below that of 16."""
    chosen = np.unique(np.linspace(0, len(images) - 1, _MAX_LOOKED_AT).astype(int))
    greatest = 0
    for index in chosen.tolist():
        greatest = max(greatest, int(images[index].max()))
        if greatest >= 2 ** _FEWER_BITS[-1]:
            return
    bits = next(bits for bits in _FEWER_BITS if greatest < 2**bits)
    warnings.warn(
        f"The images are of 16 bits, and their greatest value is {greatest}: if the camera has "
        f"{bits} bits, set data_range=(0, {2**bits - 1}). White is taken to be 65535.",
        UserWarning,
        stacklevel=2,
    )


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


def to_tensor(image: np.ndarray, data_range: DataRange, scale: float) -> Tensor:
    """An image (h, w, c) as float32 (c, h, w), its range mapped to [0, 1], resized."""
    if scale == 1:
        return _unit(image, data_range)
    height, width, n_channels = image.shape
    size = max(1, round(height * scale)), max(1, round(width * scale))
    n_rows = max(1, _BAND // (width * n_channels))
    if scale > 1 or n_rows >= height:
        return resize(_unit(image, data_range), size, antialias=scale < 1)
    # Of a large image the floats take many times its bytes. It is made narrower band by band, and
    # then lower: torch does the same two steps, so that the result is the same to the bit.
    narrow = torch.empty((n_channels, height, size[1]))
    for start in range(0, height, n_rows):
        band = _unit(image[start : start + n_rows], data_range)
        narrow[:, start : start + n_rows] = resize(band, (band.shape[1], size[1]), antialias=True)
    return resize(narrow, size, antialias=True)


def _unit(image: np.ndarray, data_range: DataRange) -> Tensor:
    """An image (h, w, c) as float32 (c, h, w), its range mapped to [0, 1]."""
    low, high = data_range
    # Integers and large offsets lose digits in float32 before the subtraction, not after.
    exact: Any = (
        np.float64 if image.dtype.itemsize > 2 and image.dtype != np.float32 else np.float32
    )
    with np.errstate(all="ignore"):  # what overflows is not finite, and refused as too large
        unit: np.ndarray = image.astype(exact)
        unit -= exact(low)
        unit /= exact(high - low)
        planes = np.ascontiguousarray(unit.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(planes)


def output_dtype(image: np.ndarray) -> np.dtype:
    """float64 in, float64 out; float32 otherwise."""
    return np.dtype(np.float64 if image.dtype == np.float64 else np.float32)
