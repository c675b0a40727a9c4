"""SSIM of two images and its factors."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from sklearn_ssimae._maps.ssim import ssim_components
from sklearn_ssimae.inspection._plotting import (
    AGREEMENT,
    GREY,
    Place,
    add_colorbar,
    as_stack,
    grid_of_axes,
    require_matplotlib,
)


class SSIMComponentsDisplay:
    """Pairs of images, their squared difference, and SSIM with its three factors.

    Luminance, contrast, structure and their product share one colour scale, whose dark end is
    1, no difference. Yellow is a difference, in the squared one too. The scale begins at 0, or at
    -1 if a value is negative.

    It is recommended to use :meth:`from_images`. All parameters are stored as attributes.

    Parameters
    ----------
    x, y : ndarray of shape (h, w) or (n, h, w)
        Images with values in [0, 1], a row of pictures for each pair.
    luminance, contrast, structure : ndarray of the images' shape
        What :func:`~sklearn_ssimae.ssim_components` returns for them.

    Attributes
    ----------
    axes_ : ndarray of shape (n, 7) of matplotlib Axes
        Columns: x, y, squared difference, luminance, contrast, structure, SSIM.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    sklearn_ssimae.ssim_components : The factors alone.

    Examples
    --------
    >>> from sklearn_ssimae.datasets import make_patch_pairs
    >>> from sklearn_ssimae.inspection import SSIMComponentsDisplay
    >>> pairs = make_patch_pairs()
    >>> SSIMComponentsDisplay.from_images(pairs[:, 0], pairs[:, 1]).axes_.shape
    (3, 7)
    """

    def __init__(
        self,
        *,
        x: np.ndarray,
        y: np.ndarray,
        luminance: np.ndarray,
        contrast: np.ndarray,
        structure: np.ndarray,
    ) -> None:
        self.x = x
        self.y = y
        self.luminance = luminance
        self.contrast = contrast
        self.structure = structure

    @classmethod
    def from_images(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        *,
        ax: Place = None,
        **ssim_params: Any,
    ) -> Self:
        """Compare images and draw the comparison.

        Parameters
        ----------
        x, y : float ndarray of shape (h, w) or (n, h, w)
            Images with values in [0, 1].
        ax : matplotlib Axes or array of Axes of shape (n, 7), default=None
            As for :meth:`plot`.
        **ssim_params : dict
            Window, constants and exponents, by the names that :func:`~sklearn_ssimae.ssim_map`
            gives them. A factor is drawn to the power of its exponent.

        Returns
        -------
        display : SSIMComponentsDisplay
            With what was computed, and drawn.

        Raises
        ------
        TypeError, ValueError
            As :func:`~sklearn_ssimae.ssim_map`; ValueError also for images of other than two
            or three axes.
        ImportError
            When matplotlib is missing.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_ssimae.inspection import SSIMComponentsDisplay
        >>> x = np.linspace(0, 1, 400).reshape(20, 20)
        >>> display = SSIMComponentsDisplay.from_images(x, x.T, window_size=5)
        >>> [ax.get_title() for ax in display.axes_[0, 3:]]
        ['luminance', 'contrast', 'structure', 'SSIM']
        """
        require_matplotlib(cls.__name__)
        if np.ndim(x) not in (2, 3):
            raise ValueError(
                f"x has the shape {np.shape(x)}. Give an image (h, w) or a stack (n, h, w); of "
                "colour images one channel at a time."
            )
        luminance, contrast, structure = ssim_components(x, y, **ssim_params)
        display = cls(x=x, y=y, luminance=luminance, contrast=contrast, structure=structure)
        return display.plot(ax=ax)

    def plot(self, ax: Place = None) -> Self:
        """Draw the comparison.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes of shape (n, 7), default=None
            Where to draw: a place that is divided into a grid, or the axes of a grid. None:
            a new figure.

        Returns
        -------
        display : SSIMComponentsDisplay
            Itself.

        Raises
        ------
        ValueError
            For an array of axes of another shape.
        ImportError
            When matplotlib is missing.
        """
        require_matplotlib(type(self).__name__)
        x, y = as_stack(self.x), as_stack(self.y)
        factors = {
            "luminance": as_stack(self.luminance),
            "contrast": as_stack(self.contrast),
            "structure": as_stack(self.structure),
        }
        factors["SSIM"] = np.prod(list(factors.values()), axis=0)
        least = -1 if any(values.min() < 0 for values in factors.values()) else 0
        columns = [
            ("x", x, GREY),
            ("y", y, GREY),
            ("(x − y)²", (x - y) ** 2, {"cmap": "cividis", "vmin": 0, "vmax": 1}),
            *((title, values, AGREEMENT | {"vmin": least}) for title, values in factors.items()),
        ]
        self.axes_, self.figure_ = grid_of_axes(ax, len(x), len(columns), x.shape[1:])
        for axes, (title, pictures, scale) in zip(self.axes_.T, columns, strict=True):
            for ax_, picture in zip(axes, pictures, strict=True):
                ax_.imshow(picture, **scale)
            axes[0].set_title(title)
        add_colorbar(self.axes_[-1, 2], ticks=[0, 0.5, 1])
        for ax_ in self.axes_[-1, 3:]:
            add_colorbar(ax_, ticks=[least, (least + 1) / 2, 1])
        return self
