"""The report as users call it: what it is given, and in which order it comes about."""

from __future__ import annotations

from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.labels import good_images, is_masks
from sklearn_ssimae._writing import replacing
from sklearn_ssimae.inspection._report.cards import MostAnomalous, make_cards, mask_of, names_of
from sklearn_ssimae.inspection._report.page import Scores, render
from sklearn_ssimae.inspection._report.scale import make_scale
from sklearn_ssimae.inspection._report.seeing import Seen, see
from sklearn_ssimae.metrics import as_mask

_MAX_IMAGES = 200


class Report:
    """A report that grows by one image at a time, while the images are inspected.

    What it holds in memory grows with the images shown, and by a number for each of the others.

    Parameters
    ----------
    detector : detector
    max_images : int, default=200
        Number of images shown at most.
    """

    def __init__(self, detector: Any, max_images: int = _MAX_IMAGES) -> None:
        self._detector = detector
        self._found = MostAnomalous(detector, max_images)

    @property
    def n_images(self) -> int:
        """Number of images that were added."""
        return len(self._found.scores)

    def add(self, seen: Seen, mask: np.ndarray | None = None) -> None:
        """Take the next image, with its mask (h, w) if there is one."""
        self._found.add(seen, mask)

    def write(
        self,
        file: Path,
        images: ImageCollection,
        *,
        good_scores: np.ndarray,
        defective: np.ndarray | None = None,
        has_masks: bool = False,
    ) -> None:
        """Write the page; of `images`, those that were added, only the names are asked for."""
        threshold = float(self._detector.threshold_)
        scores = Scores(np.array(self._found.scores), good_scores, defective)
        scale = make_scale(np.concatenate([scores.inspected, good_scores]), threshold)
        shown = self._found.shown()
        page = render(
            scores,
            scale,
            detector=type(self._detector).__name__,
            threshold=threshold,
            threshold_basis=self._detector.threshold_basis_,
            cards=make_cards(shown, scale),
            n_shown=len(shown),
            names=names_of(images),
            has_masks=has_masks,
        )
        # File names may hold bytes that are no UTF-8.
        with open(file, "w", encoding="utf-8", errors="replace", newline="\n") as text:
            text.writelines(page)


def write_report(
    path: str | PathLike[str],
    detector: Any,
    images: Any,
    *,
    masks: Any = None,
    good: Any = None,
    max_images: int = _MAX_IMAGES,
) -> None:
    """Write an HTML file in which the threshold can be moved.

    The file needs no server and no network. It shows the images, the most anomalous first, each
    with its residual map, the outline of what lies above the threshold, its reconstruction and,
    if there is one, its mask. A slider moves the threshold: outlines, labels, counts and the
    marker in the histogram of the scores follow at once. A button copies the line that sets the
    threshold that was found.

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

    Raises
    ------
    TypeError
        When the detector is none of this package.
    ValueError
        When there are no images, for masks that do not belong to them, and for whatever the
        detector refuses.
    OSError
        For a folder that is missing or cannot be written to, and for an image file that is
        missing or unreadable.

    Notes
    -----
    Labels and counts follow from the scores, which the file holds as they are. The slider stops at
    up to 254 thresholds: at round numbers, between neighbouring scores, and at the detector's
    own. At each of them the outlines are those of the detector's `segment` with that threshold.
    Photographs, reconstructions and the colours of the maps are rounded. An image whose longer
    side exceeds 320 pixels is outlined in blocks of pixels: a block is a defect if one of its
    pixels is.

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
        defective = None if masks is None else _defective(masks, len(collection))
        good_scores = np.array([]) if good is None else -np.asarray(detector.score_samples(good))
        drawn_masks = masks if is_masks(masks) else None
        report = Report(detector, int(max_images))
        for index, seen in enumerate(see(detector, collection)):
            shape = seen.residual.shape
            report.add(seen, None if drawn_masks is None else mask_of(drawn_masks, index, shape))
        report.write(
            temporary,
            collection,
            good_scores=good_scores,
            defective=defective,
            has_masks=drawn_masks is not None,
        )


def _check_arguments(detector: Any, images: Any, good: Any, max_images: int) -> None:
    if not (hasattr(detector, "reconstruct") and hasattr(detector, "_check_fitted_input")):
        raise TypeError(
            "write_report needs a fitted detector of this package, which reconstructs images, "
            f"got {type(detector).__name__}. Of a pipeline give the step that is one."
        )
    for name, value in (("images", images), ("good", good)):
        if hasattr(value, "__len__") and len(value) == 0:
            raise ValueError(f"{name} is empty. Give one image or more.")
    if not isinstance(max_images, Integral) or max_images < 1:
        raise ValueError(f"max_images must be an integer of at least 1, got {max_images!r}.")


def _defective(masks: Any, n_images: int) -> np.ndarray:
    """Whether each image is defective by its mask or label."""
    if not is_masks(masks) and np.ndim(masks) != 1:
        raise ValueError(
            f"masks has the shape {np.shape(masks)}. Give masks (n, h, w), a list of masks (h, w), "
            "or a label for each image."
        )
    if len(masks) != n_images:
        raise ValueError(f"There are {len(masks)} masks for {n_images} images.")
    if is_masks(masks):
        return np.array([as_mask(masks[i], i, "masks").any() for i in range(n_images)])
    return ~good_images(masks, n_images)
