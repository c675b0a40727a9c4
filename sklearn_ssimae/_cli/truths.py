"""True masks of the images that are inspected: from a folder, or from MVTec AD's layout."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from sklearn_ssimae._images.files import IMAGE_SUFFIXES
from sklearn_ssimae.datasets._folders import _check_mask

Masks = dict[str, Path | None]


def inspected_folder(source: Path) -> Path:
    """Of a category in MVTec AD's layout the folder of its test images; others as they are."""
    is_category = (source / "test").is_dir() and (source / "ground_truth").is_dir()
    return source / "test" if is_category else source


def find_masks(
    paths: Sequence[str], root: Path, folder: Path | None, *, may_lack_all: bool = False
) -> Masks | None:
    """The file of each image's mask, None for a good image; None if nothing is known.

    Parameters
    ----------
    paths : sequence of str
        The images.
    root : Path
        Folder that they have in common.
    folder : Path or None
        Folder of masks, laid out as the images below `root`. None: only the layout of MVTec AD
        tells where masks are.
    may_lack_all : bool, default=False
        Whether `folder` may hold none of the masks.
    """
    masks = _of_mvtec(paths) if folder is None else _of_folder(paths, root, folder, may_lack_all)
    for path, mask in (masks or {}).items():
        with suppress(OSError):  # of an image that cannot be read the inspection tells
            _check_mask(path, mask)
    return masks


def _of_folder(paths: Sequence[str], root: Path, folder: Path, may_lack_all: bool) -> Masks:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {str(folder)!r}.")
    masks: Masks = {
        path: next((name for name in _names(path, root, folder) if name.is_file()), None)
        for path in paths
    }
    if paths and not may_lack_all and not any(masks.values()):
        expected = next(_names(paths[0], root, folder))
        raise ValueError(
            f"{str(folder)!r} holds no mask of these images. Expected, for example, "
            f"{str(expected)!r} for {paths[0]!r}; sub-folders as those of the images."
        )
    return masks


def _names(path: str, root: Path, folder: Path) -> Iterator[Path]:
    """What the mask of an image may be called."""
    place = folder / os.path.relpath(path, root)
    for ending in ("_mask", ""):
        for suffix in IMAGE_SUFFIXES:
            name = place.with_name(f"{place.stem}{ending}{suffix}")
            if not name.exists() or not name.samefile(path):  # its own photograph is no mask
                yield name
    yield place.with_name(f"{place.name}.png")  # as `ssimae inspect --masks` calls that of a JPEG


def _of_mvtec(paths: Sequence[str]) -> Masks | None:
    masks: Masks = {}
    for path in paths:
        test = next((at for at in Path(path).parents if at.name == "test"), None)
        if test is None or not (test.parent / "ground_truth").is_dir():
            return None
        place = Path(path).relative_to(test)
        masks[path] = None
        if place.parts[0] != "good":
            name = f"{place.stem}_mask.png"
            masks[path] = mask = test.parent / "ground_truth" / place.parent / name
            if not mask.is_file():
                warnings.warn(
                    f"There is no {mask}, the mask of {path}: the report does without masks.",
                    stacklevel=2,
                )
                return None
    return masks
