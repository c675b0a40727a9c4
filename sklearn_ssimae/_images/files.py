"""Image files and PIL images: how their pixels are decoded."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tifffile
from PIL import Image, ImageOps

#: Names of files that are taken for images where nothing else tells.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

# Pillow's modes that hold what they show. The others are converted first.
_READ_AS = {"P": "RGB", "PA": "RGB", "RGBA": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LA": "L"}
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# What the orientations of the TIFF standard ask for; pixels of the others are as they are shown.
UPRIGHT = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}


def is_path(item: Any) -> bool:
    """Whether an item of a sequence names a file."""
    return isinstance(item, (str, os.PathLike))


def is_picture(item: Any) -> bool:
    """Whether an item of a sequence is a PIL image."""
    return isinstance(item, Image.Image)


def read_file(path: Any, index: int) -> np.ndarray:
    """The pixels of a file, turned upright; alpha is dropped, palettes are resolved."""
    try:
        if is_beyond_pillow(path):
            return _read_tiff(path)
        with Image.open(path) as file:
            return _decode(file)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"image {index} is gone: {os.fspath(path)!r}.") from error
    except Exception as error:  # decoders of damaged files raise whatever they like
        raise OSError(f"image {index} cannot be read: {os.fspath(path)!r}: {error}") from error


def read_picture(picture: Image.Image, label: str) -> np.ndarray:
    """The pixels of a PIL image, as those of a file."""
    try:
        return _decode(picture)
    except Exception as error:
        raise OSError(f"{label} cannot be read: {error}") from error


def _decode(picture: Image.Image) -> np.ndarray:
    _check_pages(getattr(picture, "n_frames", 1), getattr(picture, "format", None))
    _check_depth(picture)
    picture.load()
    upright = ImageOps.exif_transpose(picture)
    mode = upright.mode
    if mode == "LAB":  # its a and b are no brightness, and Pillow converts it to nothing
        raise ValueError("it is in the colour mode LAB. Save it as RGB.")
    if mode == "P" and not _is_colourful(upright):
        return np.asarray(upright.convert("L"))
    return np.asarray(upright.convert(_READ_AS[mode]) if mode in _READ_AS else upright)


def _check_pages(n_pages: int, kind: str | None) -> None:
    # The further pictures of an MPO file are previews that a telephone adds to a photograph.
    if n_pages > 1 and kind != "MPO":
        raise ValueError(
            f"it holds {n_pages} pages, and one page is one image. Read them as arrays: "
            "[np.asarray(page) for page in PIL.ImageSequence.Iterator(PIL.Image.open(path))], or "
            "list(tifffile.imread(path))."
        )


def _check_depth(picture: Image.Image) -> None:
    """Refuse 16-bit colour, of which Pillow keeps 8 bits without a word."""
    for tile in getattr(picture, "tile", ()):
        how = tile[3]
        raw = how[0] if isinstance(how, tuple) else how
        is_deep = isinstance(raw, str) and "16" in raw
        is_deep_ppm = picture.format == "PPM" and isinstance(how, tuple) and how[-1] > 255
        if picture.mode in {"RGB", "RGBA", "LA"} and (is_deep or is_deep_ppm):
            raise ValueError(
                "it holds 16 bits a channel, of which Pillow reads 8. Save it as TIFF, which "
                "is read through tifffile, or read it with another library and give arrays."
            )


def _is_colourful(palette_image: Image.Image) -> bool:
    rgb = np.asarray(palette_image.convert("RGB"))
    return bool((rgb != rgb[..., :1]).any())


def is_beyond_pillow(path: Any) -> bool:
    """Whether it is a TIFF file of whose values or channels Pillow reads a part, or nothing."""
    with open(path, "rb") as file:
        if file.read(4) not in _TIFF_MAGIC:
            return False
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            is_plain = page.samplesperpixel in (1, 3) or has_alpha(page) or page.photometric == 5
            dtype = np.dtype(page.dtype)
    except Exception:  # of a damaged file, Pillow's error is the better known one
        return False
    is_deep = page.samplesperpixel > 1 and dtype.itemsize > 1
    return not is_plain or is_deep or (dtype.kind == "f" and dtype.itemsize != 4)


def has_alpha(page: Any) -> bool:
    return len(page.extrasamples) == 1 and int(page.extrasamples[0]) in (1, 2)


def _read_tiff(path: Any) -> np.ndarray:
    with tifffile.TiffFile(path) as tiff:
        _check_pages(len(tiff.pages), "TIFF")
        page = tiff.pages.first
        image = page.asarray()
        if "S" in page.axes:
            image = np.moveaxis(image, page.axes.index("S"), -1)
        if has_alpha(page):
            image = image[..., :-1]
        tag = page.tags.get("Orientation")
    turn = UPRIGHT.get(tag.value if tag is not None else 1, lambda image: image)
    return np.asarray(turn(image))
