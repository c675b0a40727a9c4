"""Image files and PIL images: how they are opened, and how their pixels are decoded."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageFile, ImageOps

#: Names of files that are taken for images where nothing else tells.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

# Pillow's modes that hold what they show. The others are converted first.
_READ_AS = {"P": "RGB", "PA": "RGB", "RGBA": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LA": "L"}
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# TIFF files of so many pixels are read strip by strip if their compression (none, deflate)
# and colours (black is 0, RGB) allow it: Pillow holds them two or three times.
_LARGE = 2**25
_COMPRESSIONS = (1, 8, 32946)
_PHOTOMETRICS = (1, 2)
# What the orientations of the TIFF standard ask for; pixels of the others are as they are shown.
_UPRIGHT = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}
# Those that lie on their side.
_TURNED = (5, 6, 7, 8)


def is_path(item: Any) -> bool:
    """Whether an item of a sequence names a file."""
    return isinstance(item, (str, os.PathLike))


def is_picture(item: Any) -> bool:
    """Whether an item of a sequence is a PIL image."""
    return isinstance(item, Image.Image)


def read_file(path: Any) -> np.ndarray:
    """The pixels of a file, turned upright; alpha is dropped, palettes are resolved."""
    with naming(path):
        if _is_tiff(path, lambda page: _is_beyond_pillow(page) or _is_large_and_plain(page)):
            return _read_tiff(path)
        with opened(path) as picture:
            return _decode(picture)


def read_picture(picture: Image.Image, label: str) -> np.ndarray:
    """The pixels of a PIL image, as those of a file."""
    try:
        return _decode(picture)
    except Exception as error:
        raise OSError(f"{label} cannot be read: {error}") from error


def read_size(path: Any) -> tuple[int, int]:
    """(h, w) of an image turned upright, from the file's header alone."""
    with naming(path):
        if _is_tiff(path, _is_beyond_pillow):
            with tifffile.TiffFile(path) as tiff:
                page = tiff.pages.first
                height, width = page.imagelength, page.imagewidth
                orientation = _tiff_orientation(page)
        else:
            with opened(path) as picture:
                width, height = picture.size
                orientation = _orientation(picture)
    return (width, height) if orientation in _TURNED else (height, width)


def opaque_pixels(item: Any) -> np.ndarray | None:
    """Which pixels of a file or a PIL image are not transparent, (h, w); None for all.

    A pixel that shows at all is not transparent. Files without an alpha channel are not decoded.
    """
    if is_picture(item):
        opaque = _opaque(item)
    else:
        with naming(item):
            if _is_tiff(item, _is_beyond_pillow):
                has_alpha = _is_tiff(item, _has_alpha)
                opaque = _decode_tiff(item)[0][..., -1] > 0 if has_alpha else None
            else:
                with opened(item) as picture:
                    opaque = _opaque(picture)
    return None if opaque is None or opaque.all() else opaque


def _opaque(picture: Image.Image) -> np.ndarray | None:
    if not picture.has_transparency_data or picture.mode.startswith(("I", "F")):
        return None
    return np.asarray(upright(picture).convert("RGBA"))[..., 3] > 0


def read_planes(path: Any) -> np.ndarray | None:
    """The values (h, w) or (h, w, c) of a TIFF file that Pillow cannot read, None of others."""
    return _read_tiff(path) if _is_tiff(path, _is_beyond_pillow) else None


@contextmanager
def naming(path: Any) -> Iterator[None]:
    """Whatever goes wrong with a file becomes an OSError that names it, once."""
    name = os.fspath(path)
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name} is gone.") from error
    except Image.DecompressionBombError as error:
        raise OSError(
            f"{name} has more pixels than Pillow reads in its format. Save it as PNG or TIFF."
        ) from error
    except Exception as error:  # decoders of damaged files raise whatever they like
        reason = isinstance(error, OSError) and error.strerror
        reason = reason or str(error) or type(error).__name__
        raise OSError(f"{name} is not a readable image: {reason}") from error


@contextmanager
def opened(path: Any) -> Iterator[ImageFile.ImageFile]:
    """A file as Pillow opens it, of whatever size.

    PIL.Image.open warns of large files and refuses larger ones. Its limit is one number for the
    whole process, which is not ours to change, so that its formats are asked one by one here.
    """
    with open(path, "rb") as file, _identified(file, os.fspath(path)) as picture:
        yield picture


def upright(picture: Image.Image) -> Image.Image:
    """A PIL image in memory, turned as its metadata ask for."""
    _allocate(picture)
    picture.load()
    return ImageOps.exif_transpose(picture) if _orientation(picture) in _UPRIGHT else picture


def check_pages(picture: Image.Image) -> None:
    """Refuse files of several pages."""
    # The further pictures of an MPO file are previews that a telephone adds to a photograph.
    if getattr(picture, "format", None) != "MPO":
        _check_n_pages(getattr(picture, "n_frames", 1))


def _identified(file: Any, name: str) -> ImageFile.ImageFile:
    prefix = file.read(16)
    asked: set[str] = set()
    for register in (Image.preinit, Image.init):  # the common formats, then all
        register()
        for kind in [kind for kind in Image.ID if kind not in asked]:
            asked.add(kind)
            factory, accept = Image.OPEN[kind]
            # A text says why a format that is meant cannot be read here.
            if accept is not None and accept(prefix) is not True:
                continue
            file.seek(0)
            try:
                picture: ImageFile.ImageFile = factory(file, name)
            except (SyntaxError, IndexError, TypeError, struct.error):  # it is of another format
                continue
            return picture
    raise ValueError("cannot identify image file")


def _allocate(picture: Image.Image) -> None:
    """Memory for the pixels of a large TIFF file: where Pillow makes it, it checks its limit."""
    size = getattr(picture, "_tile_size", picture.size)
    is_open = picture.format == "TIFF" and getattr(picture, "tile", None)
    limit = Image.MAX_IMAGE_PIXELS
    if is_open and limit is not None and size[0] * size[1] > limit:
        core: Any = Image.core  # type: ignore[attr-defined]  # not exported
        picture.im = core.new(picture.mode, size)


def _decode(picture: Image.Image) -> np.ndarray:
    check_pages(picture)
    _check_depth(picture)
    picture = upright(picture)
    mode = picture.mode
    if mode == "LAB":  # its a and b are no brightness, and Pillow converts it to nothing
        raise ValueError("it is in the colour mode LAB. Save it as RGB.")
    if mode == "P" and not _is_colourful(picture):
        return np.asarray(picture.convert("L"))
    return np.asarray(picture.convert(_READ_AS[mode]) if mode in _READ_AS else picture)


def _orientation(picture: Image.Image) -> int:
    orientation: int = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation


def _check_n_pages(n_pages: int) -> None:
    if n_pages > 1:
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


def _is_tiff(path: Any, is_such: Callable[[Any], bool]) -> bool:
    """Whether it is a TIFF file of whose first page something holds."""
    with open(path, "rb") as file:
        if file.read(4) not in _TIFF_MAGIC:
            return False
    try:
        with tifffile.TiffFile(path) as tiff:
            return is_such(tiff.pages.first)
    except Exception:  # of a damaged file, Pillow's error is the better known one
        return False


def _is_beyond_pillow(page: Any) -> bool:
    """Whether Pillow reads a part of its values or channels, or nothing."""
    is_plain = page.samplesperpixel in (1, 3) or _has_alpha(page) or page.photometric == 5
    dtype = np.dtype(page.dtype)
    is_deep = page.samplesperpixel > 1 and dtype.itemsize > 1
    return not is_plain or is_deep or (dtype.kind == "f" and dtype.itemsize != 4)


def _is_large_and_plain(page: Any) -> bool:
    return (
        page.imagelength * page.imagewidth > _LARGE
        and page.compression in _COMPRESSIONS
        and page.photometric in _PHOTOMETRICS
        and page.predictor in (1, 2)
        and page.samplesperpixel in (1, 3)
        and page.bitspersample in (8, 16)
    )


def _has_alpha(page: Any) -> bool:
    return len(page.extrasamples) == 1 and int(page.extrasamples[0]) in (1, 2)


def _read_tiff(path: Any) -> np.ndarray:
    image, n_colours = _decode_tiff(path)
    return image if n_colours is None else image[..., :n_colours]


def _decode_tiff(path: Any) -> tuple[np.ndarray, int | None]:
    """The values (h, w) or (h, w, c) of a file, alpha the last of them, and how many are colours.

    None: all of them are, there is no alpha.
    """
    with tifffile.TiffFile(path) as tiff:
        _check_n_pages(len(tiff.pages))
        page = tiff.pages.first
        image = page.asarray()
        if "S" in page.axes:
            image = np.moveaxis(image, page.axes.index("S"), -1)
        n_colours = image.shape[-1] - 1 if _has_alpha(page) else None
        turn = _UPRIGHT.get(_tiff_orientation(page), lambda image: image)
    return np.asarray(turn(image)), n_colours


def _tiff_orientation(page: Any) -> int:
    tag = page.tags.get("Orientation")
    return 1 if tag is None else int(tag.value)
