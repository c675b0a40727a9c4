"""Images to measure detectors on: a loader for folders, drawn images, drawn defects."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import ExifTags, Image
from sklearn.utils import Bunch, check_random_state

from sklearn_ssimae._drawing import PAINTERS, coverage, curve, draw_defect
from sklearn_ssimae._fabric import make_fabric as make_fabric

PathLike = str | os.PathLike[str]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

# Defects scale with the image; below this side a scratch is a pixel.
_MIN_SIDE = 16


def list_images(folder: PathLike) -> list[str]:
    """Paths of the image files in a folder and its sub-folders.

    Parameters
    ----------
    folder : str or path
        Searched to any depth, for the suffixes png, jpg, jpeg, tif, tiff, bmp and webp in
        either case. Names that begin with a dot are passed over, folders included.

    Returns
    -------
    paths : list of str
        Sorted, each beginning with `folder`.

    Raises
    ------
    FileNotFoundError
        When there is no such folder.
    ValueError
        When it holds no image.

    Examples
    --------
    >>> from pathlib import Path
    >>> import skimage
    >>> from sklearn_ssimae.datasets import list_images
    >>> paths = list_images(Path(skimage.__file__).parent / "data")
    >>> any(path.endswith("brick.png") for path in paths)
    True
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {str(root)!r}.")
    paths = sorted(
        str(path)
        for path in root.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )
    if not paths:
        raise ValueError(
            f"The folder {str(root)!r} holds no images. These are looked for: "
            f"{', '.join(suffix[1:] for suffix in IMAGE_SUFFIXES)}."
        )
    return paths


def load_mvtec_ad(root: PathLike, category: str) -> Bunch:
    """Load one category of a data set in the folder layout of MVTec AD [1]_.

    The layout is ``CATEGORY/train/good/*``, ``CATEGORY/test/TYPE/*`` and
    ``CATEGORY/ground_truth/TYPE/NAME_mask.png``. TYPE ``good`` holds the good test images,
    which have no masks; it may be missing. Other types have any name.

    Parameters
    ----------
    root : str or path
        The folder that holds the categories.
    category : str
        Name of a folder in `root`, such as ``"grid"``.

    Returns
    -------
    data : Bunch
        train : list of str
            Paths of the good images to learn from, sorted.
        test : list of str
            Paths of the test images, sorted.
        masks : sequence of boolean arrays of shape (h, w)
            True where a test image shows a defect: wherever the mask's file is not black.
            A mask is read each time it is asked for, and none is kept. It has the size
            of its image; the masks of good images are False everywhere.
        target : ndarray of shape (n_test,), int
            +1 for good test images, -1 for defective ones.
        defect_types : list of str
            The folder TYPE of each test image.
        DESCR : str
            How many images of which type there are.

    Raises
    ------
    FileNotFoundError
        When a folder or a mask is missing.
    ValueError
        When a folder holds no images, or a mask has another size than its image.

    Notes
    -----
    Nothing is downloaded: the data set is at
    https://www.mvtec.com/company/research/datasets/mvtec-ad, for non-commercial use.

    References
    ----------
    .. [1] P. Bergmann et al., "MVTec AD - A Comprehensive Real-World Dataset for
       Unsupervised Anomaly Detection", CVPR 2019.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from sklearn_ssimae.datasets import load_mvtec_ad
    >>> with TemporaryDirectory() as root:
    ...     for name in ("train/good/0.png", "test/bent/1.png", "ground_truth/bent/1_mask.png"):
    ...         file = Path(root, "grid", name)
    ...         file.parent.mkdir(parents=True)
    ...         Image.new("L", (4, 3), "white").save(file)
    ...     data = load_mvtec_ad(root, "grid")
    ...     mask = data.masks[0]
    >>> data.DESCR
    'grid: train 1 good; test 1 bent.'
    >>> mask.shape, data.target
    ((3, 4), array([-1]))
    """
    folder = _category_folder(Path(root), category)
    train = list_images(folder / "train" / "good")
    test = list_images(folder / "test")
    places = [Path(path).relative_to(folder / "test") for path in test]
    for path, place in zip(test, places, strict=True):
        if len(place.parts) == 1:
            raise ValueError(
                f"The test image {path!r} belongs into a sub-folder of 'test' that is named "
                "after its type of defect, or 'good'."
            )
    types = [place.parts[0] for place in places]
    truth = folder / "ground_truth"
    files = [
        None if kind == "good" else truth / place.parent / f"{place.stem}_mask.png"
        for kind, place in zip(types, places, strict=True)
    ]
    for path, file in zip(test, files, strict=True):
        _check_mask(path, file)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(types).items()))
    return Bunch(
        train=train,
        test=test,
        masks=_MaskFiles(test, files),
        target=np.array([1 if kind == "good" else -1 for kind in types]),
        defect_types=types,
        DESCR=f"{category}: train {len(train)} good; test {counts}.",
    )


class _MaskFiles(Sequence[np.ndarray]):
    """Masks (h, w) of test images, read on access; None stands for a good image's mask."""

    def __init__(self, images: list[str], files: list[Path | None]) -> None:
        self._images = images
        self._files = files

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> _MaskFiles: ...

    def __getitem__(self, index: int | slice) -> np.ndarray | _MaskFiles:
        if isinstance(index, slice):
            return _MaskFiles(self._images[index], self._files[index])
        file = self._files[index]
        if file is None:
            return np.zeros(_shape(self._images[index]), dtype=bool)
        with Image.open(file) as mask:
            return np.asarray(mask.convert("L")) > 0


def _category_folder(root: Path, category: str) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {str(root)!r}.")
    if not (root / category).is_dir():
        found = sorted(path.name for path in root.iterdir() if path.is_dir())
        raise FileNotFoundError(
            f"{str(root)!r} holds no category {category!r}. Found: {', '.join(found) or 'none'}."
        )
    return root / category


def _check_mask(image: str, mask: Path | None) -> None:
    if mask is None:
        return
    if not mask.is_file():
        raise FileNotFoundError(f"The test image {image!r} has no mask: expected {str(mask)!r}.")
    expected, got = _shape(image), _shape(mask)
    if got != expected:
        raise ValueError(
            f"The mask {str(mask)!r} has the size {got} (h, w), its image {image!r} {expected}."
        )


def _shape(path: PathLike) -> tuple[int, int]:
    """(h, w) of an image turned upright, from the file's header alone."""
    with Image.open(path) as file:
        width, height = file.size
        # Orientations 5 to 8 lie on their side.
        is_turned = file.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return (width, height) if is_turned else (height, width)


def make_patch_pairs(size: int = 32) -> np.ndarray:
    r"""Make the three pairs of patches of the paper's Figure 2.

    In each pair the patches differ by 0.5 at every pixel, so the squared difference is
    0.25 throughout. They differ in mean, in variance or in covariance alone, to which
    SSIM's luminance, contrast and structure react, one each.

    Parameters
    ----------
    size : int, default=32
        Side of the patches in pixels, at least 4.

    Returns
    -------
    pairs : ndarray of shape (3, 2, size, size), float32
        Values in [0, 1]. ``pairs[0]`` differs in luminance, ``pairs[1]`` in contrast,
        ``pairs[2]`` in structure; ``x, y = pairs[i]``.

    Raises
    ------
    ValueError
        When `size` is less than 4.

    See Also
    --------
    sklearn_ssimae.ssim_components : The three factors of SSIM.

    Notes
    -----
    The pairs are black and mid-grey; mid-grey and a board of black and white squares; a
    board of two greys and its negative. Pair two can have no texture in x: for equal
    means, a constant :math:`|x-y|=\tfrac12` in [0, 1] allows no positive covariance, and
    only a flat patch has a structure of 1 without one.

    Squares of 2 pixels are balanced in the windows: in one of 11 pixels, of either kind,
    the means of the patches of pairs two and three differ by less than 0.01.

    References
    ----------
    .. [1] P. Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying
       Structural Similarity to Autoencoders", VISAPP 2019, Figure 2.

    Examples
    --------
    >>> from sklearn_ssimae import ssim_components
    >>> from sklearn_ssimae.datasets import make_patch_pairs
    >>> x, y = make_patch_pairs()[2]
    >>> [round(float(part.mean()), 2) for part in ssim_components(x, y)]
    [1.0, 1.0, -0.99]
    """
    if size < 4:
        raise ValueError(f"size must be at least 4, one period of the board, got {size!r}.")
    stripes = np.arange(size) // 2 % 2
    board = (stripes[:, None] ^ stripes).astype(np.float32)
    black, grey = np.zeros_like(board), np.full_like(board, 0.5)
    # All values are quarters, so every difference is exact.
    return np.array([[black, grey], [grey, board], [0.25 + board / 2, 0.75 - board / 2]])


def make_checkerboards(
    n_samples: int = 100,
    *,
    size: int = 128,
    defects: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Make black and white checkerboards, as for the paper's Figure 3.

    Parameters
    ----------
    n_samples : int, default=100
        Number of images.
    size : int, default=128
        Side of the images in pixels, at least 16. The boards' squares have sides between
        ``size / 16`` and ``size / 4``, any orientation and any offset; edges are
        anti-aliased.
    defects : bool, default=False
        Draw one to three strokes and as many dots of mid-grey into each image.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same images each time. The boards do not depend on `defects`.

    Returns
    -------
    images : ndarray of shape (n_samples, size, size), float32
        Values in [0, 1].
    masks : ndarray of shape (n_samples, size, size), bool
        True on strokes and dots, where they cover half of a pixel or more.

    Raises
    ------
    ValueError
        When `n_samples` is less than 1 or `size` less than 16.

    References
    ----------
    .. [1] P. Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying
       Structural Similarity to Autoencoders", VISAPP 2019, Figure 3.

    Examples
    --------
    >>> from sklearn_ssimae.datasets import make_checkerboards
    >>> images, masks = make_checkerboards(2, defects=True, random_state=0)
    >>> images.shape, bool(masks.any(axis=(1, 2)).all())
    ((2, 128, 128), True)
    """
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples!r}.")
    if size < _MIN_SIDE:
        raise ValueError(f"size must be at least {_MIN_SIDE}, got {size!r}.")
    images = np.empty((n_samples, size, size), dtype=np.float32)
    masks = np.zeros(images.shape, dtype=bool)
    for index, random in enumerate(_one_state_each(random_state, n_samples)):
        board = _checkerboard(size, random)
        if defects:
            marks = _strokes_and_dots(size, random)
            board += marks * (0.5 - board)
            masks[index] = marks >= 0.5
        images[index] = board
    return images, masks


def _one_state_each(
    random_state: int | np.random.RandomState | None, n: int
) -> Iterable[np.random.RandomState]:
    """A generator for each image: no image depends on what was drawn into the others."""
    seeds = check_random_state(random_state).randint(np.iinfo(np.int32).max, size=n)
    return map(np.random.RandomState, seeds)


def _checkerboard(size: int, random: np.random.RandomState) -> np.ndarray:
    side = size * 2 ** random.uniform(-4, -2)
    angle = random.uniform(0, np.pi / 2)
    rows, columns = np.indices((size, size))
    board = np.ones((size, size))
    for across in (
        rows * np.cos(angle) - columns * np.sin(angle),
        rows * np.sin(angle) + columns * np.cos(angle),
    ):
        line = across / side + random.uniform(0, 2)
        nearest = np.rint(line)
        # Signed distance to the nearest line, in pixels: the edge is one pixel wide.
        distance = np.clip((line - nearest) * side, -0.5, 0.5)
        board *= 2 * distance * (1 - 2 * (nearest % 2))
    return (1 + board) / 2


def _strokes_and_dots(size: int, random: np.random.RandomState) -> np.ndarray:
    marks = np.zeros((size, size))
    for _ in range(random.randint(1, 4)):
        stroke = curve(marks.shape, random, length=random.uniform(0.2, 0.5) * size, bend=0.5)
        radius = np.full(len(stroke), max(0.75, random.uniform(0.01, 0.02) * size))
        np.maximum(marks, coverage(marks.shape, stroke, radius), out=marks)
    for _ in range(random.randint(1, 4)):
        dot = random.uniform(0.1, 0.9, size=(1, 2)) * size
        radius = np.array([max(0.75, random.uniform(0.025, 0.05) * size)])
        np.maximum(marks, coverage(marks.shape, dot, radius), out=marks)
    return marks


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
    states = _one_state_each(random_state, len(originals))
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
    if array.ndim not in (2, 3) or min(array.shape[:2]) < _MIN_SIDE or array.size == 0:
        raise ValueError(
            f"image {index} must have the shape (h, w) or (h, w, c) with sides of at least "
            f"{_MIN_SIDE} pixels, got {array.shape}."
        )
    if array.dtype.kind == "f" and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"image {index} holds values in [{array.min():g}, {array.max():g}]. "
            "Bring them to [0, 1] first."
        )
    return array
