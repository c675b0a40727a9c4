"""Folders of images, among them the layout of MVTec AD: paths now, pixels when they are needed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from PIL import ExifTags, Image
from sklearn.utils import Bunch

from sklearn_ssimae._images.files import IMAGE_SUFFIXES

PathLike = str | os.PathLike[str]


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
