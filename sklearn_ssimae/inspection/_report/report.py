"""The report as users call it: what it is given, and in which order it comes about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.labels import good_images, is_masks, warn_of_zeros_and_ones
from sklearn_ssimae._networks.own_state import own_state
from sklearn_ssimae._writing import replacing, sha256_of
from sklearn_ssimae.inspection._defects import check_detector
from sklearn_ssimae.inspection._limits import lines_of
from sklearn_ssimae.inspection._report.cards import MAX_IMAGES, Gathering, names_of, rows_of
from sklearn_ssimae.inspection._report.page import Origin, Scores, render
from sklearn_ssimae.inspection._report.scale import make_scale
from sklearn_ssimae.inspection._report.seeing import Seen, see
from sklearn_ssimae.metrics import Images, as_mask


@own_state()
def write_report(
    path: str | PathLike[str],
    detector: Any,
    images: Any,
    *,
    masks: Any = None,
    good: Any = None,
    max_images: int = MAX_IMAGES,
    detector_file: str | PathLike[str] | None = None,
) -> None:
    """Write an HTML file in which the threshold can be moved and the images can be judged.

    The file needs no server and no network. It shows the images, the most anomalous first, each
    with its residual map, the outline of the pixels above the threshold, its reconstruction and,
    if there is one, its mask. A slider moves the threshold: outlines, labels, counts and the
    marker in the histogram of the scores follow at once. A button copies the command that sets
    the threshold that was found. A click opens an image at full size. Keys and buttons say of an
    image, or of one region in it, that it is good after all or a defect; these verdicts are
    counted, stay in the browser, and are saved as ``verdicts.csv``.

    Parameters
    ----------
    path : str or path-like
        File to write, in a folder that exists. A file that is there is replaced.
    detector : detector
        A fitted detector of this package.
    images : array of shape (n, h, w), (n, h, w, c) or (n, n_features), or sequence
        Images to inspect, as for the detector's `transform`: also a sequence of arrays of
        different sizes or of paths of image files. They are taken one at a time.
    masks : bool array of shape (n, h, w), sequence of n arrays (h, w), or labels of shape (n,), \
default=None
        What is true, as for the detector's `score`. True pixels are defects; of labels, -1 is a
        defect and any other value is good. With them the report counts what is found, the
        false alarms, precision and recall.
    good : array or sequence, default=None
        Images that are known to be good and were not trained on, in any form that `images` may
        have. Their scores are drawn in the histogram and counted; they are not shown.
    max_images : int, default=200
        Number of images shown at most, those with the highest scores. The scores of all are in
        the histogram and in the counts.
    detector_file : str or path-like, default=None
        The file that the detector was loaded from. The report names it, and the verdicts hold the
        SHA-256 of its bytes. The report quotes what `ssimae detectability` stored beside it.

    Raises
    ------
    TypeError
        If the detector is not one of this package.
    ValueError
        When there are no images, for masks that do not belong to them, and for whatever the
        detector refuses.
    OSError
        For a folder that is missing or cannot be written to, and for an image file or a
        `detector_file` that is missing or unreadable.

    Notes
    -----
    Labels and counts follow from the scores, which the file holds as they are. The slider stops at
    up to 254 thresholds: at round numbers, between neighbouring scores, and at the detector's
    own. At each of them the outlines are those of the detector's `segment` with that threshold.
    Photographs, reconstructions and the colours of the maps are rounded. An image whose longer
    side exceeds 320 pixels is outlined in blocks of pixels: a block is a defect if one of its
    pixels is.

    Pixels that do not count, outside the detector's `region_` or transparent, are darkened.

    A photograph is kept with at most 640 pixels a side and in 18 kB. Where that leaves something
    out, the parts around regions above the detector's threshold and around true defects are kept
    at their own scale beside it.

    ``verdicts.csv`` has a row for each image that was judged, and one for each region:

    ===================  =======================================================================
    path                 the image, as it was given
    verdict              ``good``, ``defect`` or ``skip``
    region               empty for the image, else the region's number: 1 has the largest residual
    x, y, width, height  box of the region, in pixels from the upper left corner
    score                largest residual in the image or the region
    label                ``defect`` if the score is above `threshold`, else ``good``
    threshold            in force when the file was saved: where the slider stood
    sha256, bytes        SHA-256 and size of the image's file; of an array, SHA-256 of its values
    report               the report's identifier
    detector             `detector_file`, if it was given
    detector_sha256      SHA-256 of its bytes
    detector_threshold   the detector's own, at which the regions were found
    ===================  =======================================================================

    Nothing is written before the last image was inspected, and the file appears at once.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_ssimae import L2AutoencoderDetector
    >>> from sklearn_ssimae.inspection import write_report
    >>> stripes = np.tile(np.sin(np.arange(32)) ** 2, (2, 32, 1))
    >>> detector = L2AutoencoderDetector(
    ...     patch_size=16, latent_dim=4, n_patches=100, max_iter=5, random_state=0
    ... ).fit(stripes)
    >>> with TemporaryDirectory() as folder:
    ...     write_report(Path(folder) / "report.html", detector, stripes)
    ...     print([path.name for path in Path(folder).iterdir()])
    ['report.html']
    """
    _check_arguments(detector, images, good, max_images)
    with replacing(Path(path)) as temporary:
        collection = detector._check_fitted_input(images)
        if detector_file is not None:  # one that cannot be read is told before the inspection
            sha256_of(detector_file)
        defective = None if masks is None else _defective(masks, collection)
        good_scores = np.array([]) if good is None else -np.asarray(detector.score_samples(good))
        gathering = Gathering(detector, int(max_images))
        for index, seen in enumerate(see(detector, collection)):
            mask = mask_of(masks, index, collection.name(index), seen) if is_masks(masks) else None
            gathering.add(collection, index, seen, mask)
        write_page(
            temporary,
            detector,
            gathering,
            collection,
            detector_file=detector_file,
            defective=defective,
            good_scores=good_scores,
        )


def write_page(
    file: Path,
    detector: Any,
    gathering: Gathering,
    images: ImageCollection,
    *,
    detector_file: str | PathLike[str] | None,
    defective: np.ndarray | None,
    good_scores: np.ndarray,
) -> None:
    """Write the page of what was gathered. Only the names of `images` are asked for."""
    folder, names = names_of(images)
    origin = Origin(
        type(detector).__name__,
        float(detector.threshold_),
        detector.threshold_basis_,
        None if detector_file is None else os.fspath(detector_file),
        None if detector_file is None else sha256_of(detector_file),
        [] if detector_file is None else lines_of(Path(detector_file)),
        folder,
    )
    page = make_page(detector, gathering, origin, names, defective, good_scores)
    # File names may hold bytes that are no UTF-8.
    with open(file, "w", encoding="utf-8", errors="replace", newline="\n") as text:
        text.writelines(page)


def make_page(
    detector: Any,
    gathering: Gathering,
    origin: Origin,
    names: list[str],
    defective: np.ndarray | None,
    good_scores: np.ndarray,
) -> Iterator[str]:
    """The page of what was gathered, in parts."""
    has_masks = any(value is not None for value in gathering.on_defect)
    scores = Scores(
        np.array(gathering.scores),
        good_scores,
        defective,
        gathering.on_defect if has_masks else None,
    )
    scale = make_scale(
        np.concatenate([scores.inspected, good_scores]),
        origin.threshold,
        None if detector._make_comparison().gives_logarithms else 0.0,
    )
    cards = gathering.cards()
    return render(
        scores,
        scale,
        origin,
        cards=rows_of(cards, scale, names),
        n_shown=len(cards),
        has_masks=has_masks,
        region_share=None if detector.region_ is None else float(detector.region_.mean()),
        is_dimmed=gathering.is_dimmed,
    )


def mask_of(masks: Images, index: int, name: str, seen: Seen) -> np.ndarray:
    """The mask of an image that was seen, which must have its shape."""
    mask, shape = as_mask(masks[index], index, "masks"), seen.residual.shape
    if mask.shape != shape:
        raise ValueError(f"masks[{index}] has the shape {mask.shape}, {name} {shape}.")
    return mask


def _check_arguments(detector: Any, images: Any, good: Any, max_images: int) -> None:
    check_detector(detector, "write_report")
    for name, value in (("images", images), ("good", good)):
        if hasattr(value, "__len__") and len(value) == 0:
            raise ValueError(f"{name} is empty. Give one image or more.")
    if not isinstance(max_images, Integral) or max_images < 1:
        raise ValueError(f"max_images must be an integer of at least 1, got {max_images!r}.")


def _defective(masks: Any, images: ImageCollection) -> np.ndarray:
    """Whether each image is defective by its mask or label."""
    n_images = len(images)
    if not is_masks(masks) and np.ndim(masks) != 1:
        raise ValueError(
            f"masks has the shape {np.shape(masks)}. Give masks (n, h, w), a list of masks (h, w), "
            "or a label for each image."
        )
    if len(masks) != n_images:
        raise ValueError(f"There are {len(masks)} masks for {n_images} images.")
    if is_masks(masks):
        return np.array([as_mask(masks[i], i, "masks").any() for i in range(n_images)])
    warn_of_zeros_and_ones(masks, images)
    return ~good_images(masks, n_images)
