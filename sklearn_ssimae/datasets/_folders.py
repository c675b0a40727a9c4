"""Folders of images, among them the layout of MVTec AD: paths now, pixels when they are needed."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from sklearn.utils import Bunch

from sklearn_ssimae._images.files import IMAGE_SUFFIXES, read_size
from sklearn_ssimae._images.masks import read_mask, warn_of_odd_mask

PathLike = str | os.PathLike[str]

# Folders that storage devices and operating systems make, in lower case: thumbnails, bins, remains.
_OF_SYSTEMS = {
    "@eadir",
    "#recycle",
    "#snapshot",
    "@recycle",
    "$recycle.bin",
    "recycler",
    "system volume information",
    "lost+found",
    "__macosx",
}


def list_images(folder: PathLike) -> list[str]:
    """Paths of the image files in a folder and its sub-folders.

    Parameters
    ----------
    folder : str or path
        Searched to any depth, for the suffixes png, jpg, jpeg, tif, tiff, bmp and webp in
        either case. Names that begin with a dot are passed over, and so are folders of
        operating systems and storage devices: ``@eaDir``, ``$RECYCLE.BIN``, ``System Volume
        Information`` and the like. A linked folder is followed, but no folder is read twice.

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

    Warns
    -----
    UserWarning
        When images were passed over: how many, and where.

    Examples
    --------
    >>> from pathlib import Path
    >>> import skimage
    >>> from sklearn_ssimae.datasets import list_images
    >>> paths = list_images(Path(skimage.__file__).parent / "data")
    >>> any(path.endswith("brick.png") for path in paths)
    True
    """
    found = find_images(folder)
    if found.passed_over:
        warnings.warn(found.describe_passed_over(), UserWarning, stacklevel=2)
    if not found.paths:
        raise ValueError(
            f"The folder {str(Path(folder))!r} holds no images. These are looked for: "
            f"{', '.join(suffix[1:] for suffix in IMAGE_SUFFIXES)}."
        )
    return found.paths


class FoundImages(NamedTuple):
    """The image files of a folder.

    Parameters
    ----------
    folder : str
    paths : list of str
        Sorted.
    passed_over : Counter of str
        How many images were passed over, by the hidden folder, the system's folder or the hidden
        file in which they are.
    """

    folder: str
    paths: list[str]
    passed_over: Counter[str]

    def describe_passed_over(self) -> str:
        """One line: how many images were passed over, and where."""
        total = self.passed_over.total()
        names = [repr(name) for name in sorted(self.passed_over)]
        places = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        images = "1 image was" if total == 1 else f"{total} images were"
        return (
            f"{images} passed over in {self.folder!r}, hidden or in folders of the system: {places}"
        )


def find_images(folder: PathLike) -> FoundImages:
    """What `list_images` lists, which may be nothing, and what it passes over."""
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {str(root)!r}.")
    found = FoundImages(str(root), [], Counter())
    seen: set[str] = set()
    # Links come last: a folder that is there itself is not read through a link.
    folders, links = [str(root)], list[str]()
    while folders or links:
        place = folders.pop() if folders else links.pop(0)
        if (target := os.path.realpath(place)) in seen:
            continue
        seen.add(target)
        with os.scandir(place) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if _is_passed_over(entry):
                    _count_passed_over(entry, root, found.passed_over)
                elif entry.is_dir():
                    (links if entry.is_symlink() else folders).append(entry.path)
                elif _is_image(entry.name) and entry.is_file():
                    found.paths.append(str(Path(entry.path)))
    found.paths.sort()
    return found


def check_good_folder(folder: PathLike) -> None:
    """Refuse a folder of which not all images are good: a whole category, or several.

    Raises
    ------
    ValueError
        For a folder that holds ``train`` beside ``test`` or ``ground_truth``, or ``good`` beside
        other folders of images, at any depth. It names the folder that was probably meant.
    """
    root = Path(folder)
    inside: dict[Path, set[str]] = {}
    for path in find_images(root).paths:
        parts = Path(path).relative_to(root).parts[:-1]
        for depth, name in enumerate(parts):
            inside.setdefault(root.joinpath(*parts[:depth]), set()).add(name)
    for place, names in sorted(inside.items(), key=lambda item: len(item[0].parts)):
        if "train" in names and names & {"test", "ground_truth"}:
            train = place / "train"
            meant = train / "good" if "good" in inside.get(train, ()) else train
        elif "good" in names and len(names) > 1:
            meant = place / "good"
        else:
            continue
        others = ", ".join(repr(name) for name in sorted(names - {"train", "good"}))
        raise ValueError(
            f"{str(place)!r} does not hold good images alone: there is also {others}. Give the "
            f"folder of the good images, probably {str(meant)!r}."
        )


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _is_passed_over(entry: os.DirEntry[str]) -> bool:
    is_hidden = entry.name.startswith(".")
    return is_hidden or (entry.name.lower() in _OF_SYSTEMS and entry.is_dir())


def _count_passed_over(entry: os.DirEntry[str], root: Path, counts: Counter[str]) -> None:
    """Count the images in a folder, or the one that a file is; folders may be closed to us."""
    if entry.is_dir():
        files = (name for _, _, names in os.walk(entry.path) for name in names)
        n_images = sum(map(_is_image, files))
    else:
        n_images = int(_is_image(entry.name))
    if n_images:
        counts[os.path.relpath(entry.path, root)] += n_images


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
            A file of indices may also be black altogether, or have no black: its index 0 is
            good. A file that is transparent in places marks what is opaque, and a JPEG what
            exceeds half of its greatest value. A mask is read each time it is asked for, and
            none is kept. It has the size of its image; the masks of good images are False
            everywhere.
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

    Warns
    -----
    UserWarning
        When the mask of a defective image is read and marks nothing, or looks inverted.

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
    ...         image = Image.new("L", (4, 3))
    ...         image.putpixel((2, 1), 255)
    ...         image.save(file)
    ...     data = load_mvtec_ad(root, "grid")
    ...     mask = data.masks[0]
    >>> data.DESCR
    'grid: train 1 good; test 1 bent.'
    >>> mask.shape, int(mask.sum()), data.target
    ((3, 4), 1, array([-1]))
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
            return np.zeros(read_size(self._images[index]), dtype=bool)
        mask = read_mask(file)
        warn_of_odd_mask(mask, file)
        return mask


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
    expected, got = read_size(image), read_size(mask)
    if got != expected:
        raise ValueError(
            f"The mask {str(mask)!r} has the size {got} (h, w), its image {image!r} {expected}."
        )
