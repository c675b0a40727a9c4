"""X as a detector takes it: checked, remembered, and as the planes that a network sees."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from sklearn_ssimae._detectors.parameters import Parameters
from sklearn_ssimae._images import collection
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.containers import check_not_one_image, plain
from sklearn_ssimae._images.values import Preparation


class Given(NamedTuple):
    """An image (h, w, c), and which of its pixels count, (h, w); None for all."""

    image: np.ndarray
    counts: np.ndarray | None


class Inputs(Parameters):
    """What stands between X and the network."""

    def _check_fitted_input(self, X: Any) -> ImageCollection:
        check_is_fitted(self)
        return self._check_input(X, reset=False)

    def _check_input(self, X: Any, *, reset: bool) -> ImageCollection:
        """The images of X. With reset, sets `image_shape_` and `n_features_in_`."""
        X = plain(X)
        if not reset:
            check_not_one_image(
                X,
                learnt_from_rows=self._input_kind_ == "rows" or self.image_shape is not None,
                n_channels=self._n_channels,
            )
        images = self._read_input(X, reset=reset)
        if reset:
            self._input_kind_ = images.kind
        return images

    def _read_input(self, X: Any, *, reset: bool) -> ImageCollection:
        if collection.is_rows(X):
            stored = collection.is_stored(X)
            rows = validate_data(self, X, reset=reset, dtype="numeric", skip_check_array=stored)
            shape = None if reset else self.image_shape_
            if shape is None:
                shape = collection.resolve_image_shape(self.image_shape, *rows.shape[::-1])
            if reset:
                self.image_shape_ = shape
            return (collection.stored_rows if stored else collection.images_of_rows)(rows, shape)
        if collection.is_image_stack(X):
            stored = collection.is_stored(X)
            images = collection.stored_stack(X) if stored else collection.stack_of_images(X)[0]
            if reset:
                self.image_shape_ = np.shape(X)[1:]
                self.n_features_in_ = math.prod(self.image_shape_)
            return images
        if reset:
            # Nothing is fixed by images that may differ in size.
            self.image_shape_ = None
        return collection.sequence_of_images(X)

    def _preparation(self) -> Preparation:
        is_given = self.data_range is not None
        return Preparation(self.data_range_, self.scale, self._n_channels, is_given, self.region_)

    def _planes(self, images: ImageCollection) -> Iterator[tuple[Given, Tensor]]:
        """Each image, and its planes as the network sees them; one at a time."""
        prepare = self._preparation()
        warned = False
        for index, image in enumerate(images):
            name = images.name(index)
            warned = warned or prepare.warn_if_out_of_range(name, image)
            counts, planes = prepare.read(image, images, index)
            yield Given(image, counts), planes
