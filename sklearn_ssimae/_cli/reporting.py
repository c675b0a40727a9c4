"""The report of an inspection, which grows while the images are inspected."""

from __future__ import annotations

import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_ssimae._cli.truths import Masks, find_masks
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._writing import replacing
from sklearn_ssimae.datasets._folders import _MaskFiles
from sklearn_ssimae.inspection._report import Gathering, Seen, mask_of, write_page


class GrowingReport:
    """The report: each image is added when it was inspected, and may be gone at the end.

    Parameters
    ----------
    options : Namespace
        ``output``, the folder; ``detector``, its file; ``masks_from``, the folder of masks.
    detector : detector
    root : Path
        Folder that the images have in common.
    """

    def __init__(self, options: Namespace, detector: Any, root: Path) -> None:
        self._options = options
        self._detector = detector
        self._root = root
        self._gathering = Gathering(detector)
        self._paths: list[str] = []
        self._masks: Masks | None = None
        self._are_known = False
        # The masks of the images that were added, as long as there is none without.
        self._files: list[Path | None] | None = []

    def find_masks(self, paths: list[str]) -> None:
        """Look for the masks of all images: what is wrong with one is told before the rest."""
        self._masks = find_masks(paths, self._root, self._options.masks_from)
        self._are_known = True

    def add(self, path: str, seen: Seen) -> None:
        """Take an image that was inspected."""
        # First the name: Ctrl-C may come between the two.
        self._paths.append(path)
        mask = None
        masks = self._masks if self._are_known else self._find_mask(path)
        if masks is None or self._files is None:
            self._files = None
        else:
            file = masks[path]
            self._files.append(file)
            mask = np.zeros(seen.residual.shape, dtype=bool)
            if file is not None:
                mask = mask_of(_MaskFiles([path], [file]), 0, path, seen)
        self._gathering.add(ImageCollection([path], "sequence"), 0, seen, mask)

    def _find_mask(self, path: str) -> Masks | None:
        """That of one image which has arrived. A good one needs none."""
        try:
            return find_masks([path], self._root, self._options.masks_from, may_lack_all=True)
        except (OSError, ValueError) as error:  # no reason for the watch to end
            warnings.warn(f"The report does without masks: {error}", stacklevel=2)
            return None

    def write(self) -> None:
        """Write the page, if an image was added, and say where it is."""
        n_images = len(self._gathering.scores)
        if not n_images:
            return
        place, files = self._options.output / "report.html", self._files
        with replacing(place) as temporary:
            write_page(
                temporary,
                self._detector,
                self._gathering,
                ImageCollection(self._paths[:n_images], "sequence"),
                detector_file=self._options.detector,
                defective=None if files is None else np.array(self._gathering.has_defect),
                good_scores=np.array([]),
            )
        print(f"report: {place}")
        if files is not None:
            n_masks = n_images - files.count(None)
            print(f"masks: {n_masks} of {n_images} images have one; the others count as good")
