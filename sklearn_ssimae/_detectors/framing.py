"""scikit-learn's `set_output`: maps of rows come in data frames, maps of images in arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.utils._set_output import _wrap_data_with_container


class FramesOfRows:
    """Before TransformerMixin: `set_output` is there, and `framed` says what it acts on.

    TransformerMixin by itself would wrap every result of `transform`, and fail with those that
    have more than two axes.
    """

    _sklearn_auto_wrap_output_keys: ClassVar[set[str]]

    def __init_subclass__(cls, **options: Any) -> None:
        options["auto_wrap_output_keys"] = None
        super().__init_subclass__(**options)
        cls._sklearn_auto_wrap_output_keys = {"transform"}

    if TYPE_CHECKING:

        def fit(self, X: Any, y: Any = None) -> Any: ...

        def transform(self, X: Any) -> Any: ...

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit, then transform the same X.

        Parameters
        ----------
        X : array or sequence
            As in `fit`.
        y : array-like or masks, default=None
            As in `fit`.

        Returns
        -------
        result : ndarray, list or data frame
            What `transform` returns.
        """
        return self.fit(X, y).transform(X)


def framed(transform: Callable[..., Any]) -> Callable[..., Any]:
    """Of `transform`: results that are rows come in the container that `set_output` asks for."""

    @wraps(transform)
    def wrapper(self: Any, X: Any) -> Any:
        maps = transform(self, X)
        if isinstance(maps, np.ndarray) and maps.ndim == 2:
            return _wrap_data_with_container("transform", maps, X, self)
        return maps

    return wrapper
