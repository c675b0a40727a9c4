"""scikit-learn's `get_feature_names_out`: maps of flattened images have it, others say why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from sklearn_ssimae._images.collection import Kind


class NamesOfRows:
    """Before one of scikit-learn's mixins, which makes the names."""

    @property
    def _was_fitted_on_rows(self) -> bool:
        return hasattr(self, "n_features_in_")

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns that `transform` returns, after a fit on flattened images.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Checked against the names seen in `fit`.

        Returns
        -------
        names : ndarray of str, of shape (h·w,)

        Raises
        ------
        ValueError
            After a fit on anything but rows: `transform` returns no columns then.
        """
        check_is_fitted(self)
        if not self._was_fitted_on_rows:
            raise ValueError(
                f"This {type(self).__name__} was fitted on images or maps that have a height and "
                "a width, so what it returns has no feature names. Only X of shape "
                "(n, n_features) leads to feature names."
            )
        names: np.ndarray = super().get_feature_names_out(input_features)  # type: ignore[misc]
        return names


class NamesOfPixels(NamesOfRows, ClassNamePrefixFeaturesOutMixin):
    """Of a detector: the name of its class, followed by the index of the pixel."""

    if TYPE_CHECKING:
        image_shape_: tuple[int, ...] | None
        _input_kind_: Kind

    @property
    def _was_fitted_on_rows(self) -> bool:
        return self._input_kind_ == "rows"

    @property
    def _n_features_out(self) -> int:
        shape = getattr(self, "image_shape_", None)
        if shape is None:  # hasattr and dir ask for it after any fit
            raise AttributeError(f"The maps of this {type(self).__name__} differ in size.")
        return int(np.prod(shape[:2]))
