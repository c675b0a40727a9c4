"""Images, reconstructions, residual maps and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from sklearn_ssimae._networks.own_state import own_state
from sklearn_ssimae.inspection._defects import check_detector
from sklearn_ssimae.inspection._plotting import (
    FOUND,
    GREY,
    TRUE,
    Place,
    add_colorbar,
    check_truths,
    dimmed,
    draw_outline,
    grid_of_axes,
    require_matplotlib,
    shared_norm,
    tinted,
    unit_of,
    visible,
)
from sklearn_ssimae.metrics import Images, as_map


class ResidualMapDisplay:
    """Images, reconstructions, residual maps and masks, a row for each image.

    The map is drawn with the outline of the pixels above the threshold. The last column shows the
    mask (solid outline, filled) and, if masks are given, the true defects (dashed outline). One
    colour scale holds for all maps; its bar has a line at the threshold.

    It is recommended to use :meth:`from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    images : sequence of n arrays of shape (h, w) or (h, w, c)
        Grey images, or colour images with c = 3; others are shown as the mean of their
        channels.
    reconstructions : sequence of n arrays
        Of the shapes and the range of the images.
    maps : sequence of n arrays of shape (h, w)
        Residual maps; larger = more anomalous.
    threshold : float
        Map value above which a pixel is a defect.
    data_range : (low, high)
        Image values shown as black and white.
    masks : sequence of n bool arrays of shape (h, w), default=None
        True on the defects that there are.
    counts : sequence of n bool arrays of shape (h, w), or of None, default=None
        False on pixels that do not count, which the images show darkened; None for images of
        which all pixels count.
    unit : str, default="residual"
        What the maps' values mean, under the colour bar. :meth:`from_estimator` fills in "times
        the residual of good images" for relative maps ("difference from" it if the residual is a
        logarithm), and "residual" for plain ones.

    Attributes
    ----------
    axes_ : ndarray of shape (n, 4) of matplotlib Axes
        Columns: image, reconstruction, map, mask.
    colorbar_ : matplotlib Colorbar
        Of the maps.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    PixelCurveDisplay : How well maps tell defects from the rest, at all thresholds.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssimae.inspection import ResidualMapDisplay
    >>> image = np.zeros((16, 16))
    >>> defect = image.copy()
    >>> defect[4:8, 4:8] = 1.0
    >>> display = ResidualMapDisplay(
    ...     images=[image + defect],
    ...     reconstructions=[image],
    ...     maps=[defect],
    ...     threshold=0.5,
    ...     data_range=(0, 1),
    ... )
    >>> display.plot().axes_.shape
    (1, 4)
    """

    def __init__(
        self,
        *,
        images: Sequence[np.ndarray] | np.ndarray,
        reconstructions: Sequence[np.ndarray] | np.ndarray,
        maps: Images,
        threshold: float,
        data_range: tuple[float, float],
        masks: Images | None = None,
        counts: Sequence[np.ndarray | None] | np.ndarray | None = None,
        unit: str = "residual",
    ) -> None:
        self.images = images
        self.reconstructions = reconstructions
        self.maps = maps
        self.threshold = threshold
        self.data_range = data_range
        self.masks = masks
        self.counts = counts
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        masks: Images | None = None,
        *,
        ax: Place = None,
    ) -> Self:
        """Let a detector look at images, and draw what it sees.

        Parameters
        ----------
        estimator : detector
            A fitted detector of this package.
        X : array of shape (n, h, w), (n, h, w, c) or (n, n_features), or sequence
            Images, as for the detector's `transform`. All are kept, so give the few that
            are to be seen.
        masks : bool array of shape (n, h, w), or sequence of n arrays (h, w), default=None
            True on the defects that there are.
        ax : matplotlib Axes or array of Axes of shape (n, 4), default=None
            As for :meth:`plot`.

        Returns
        -------
        display : ResidualMapDisplay
            With what was computed, and drawn.

        Raises
        ------
        TypeError
            When the estimator is no detector of this package.
        ValueError
            For masks that do not belong to the images: with the index of the mask.
        ImportError
            When matplotlib is missing.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_ssimae import L2AutoencoderDetector
        >>> from sklearn_ssimae.inspection import ResidualMapDisplay
        >>> stripes = np.tile(np.sin(np.arange(32)) ** 2, (2, 32, 1))
        >>> detector = L2AutoencoderDetector(
        ...     patch_size=16, latent_dim=4, n_patches=100, max_iter=5, random_state=0
        ... ).fit(stripes)
        >>> display = ResidualMapDisplay.from_estimator(detector, stripes[:1])
        >>> display.axes_[0, 2].get_title()
        'residual map'
        """
        require_matplotlib(cls.__name__)
        check_detector(estimator, cls.__name__)
        given = estimator._check_fitted_input(X)
        images = list(given)
        prepare = estimator._preparation()
        in_range = prepare.in_learnt_range
        drawn = [
            [in_range(pixels, image, f"image {i}") for i, (pixels, image) in enumerate(pairs)]
            for pairs in (
                zip(images, images, strict=True),
                zip(estimator.reconstruct(images), images, strict=True),
            )
        ]
        with own_state():
            # Of what was given: the pixels alone do not tell which are transparent.
            maps = list(estimator._maps(given))
        display = cls(
            images=drawn[0],
            reconstructions=drawn[1],
            maps=maps,
            threshold=float(estimator.threshold_),
            data_range=estimator.data_range_,
            masks=masks,
            counts=[prepare.counts(given, i, image.shape[:2]) for i, image in enumerate(images)],
            unit=unit_of(estimator),
        )
        return display.plot(ax=ax)

    def plot(self, ax: Place = None) -> Self:
        """Draw the images.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes of shape (n, 4), default=None
            Where to draw: a place that is divided into a grid, or the axes of a grid. None:
            a new figure.

        Returns
        -------
        display : ResidualMapDisplay
            Itself.

        Raises
        ------
        ValueError
            For an array of axes of another shape, and for maps and masks that do not fit to the
            images.
        ImportError
            When matplotlib is missing.
        """
        require_matplotlib(type(self).__name__)
        maps = [as_map(self.maps[i], i, "maps") for i in range(len(self.maps))]
        truths = check_truths(self.masks, maps)
        self.axes_, self.figure_ = grid_of_axes(ax, len(maps), 4, maps[0].shape)
        titles = ("image", "reconstruction", "residual map", "mask")
        for axes, title in zip(self.axes_[0], titles, strict=True):
            axes.set_title(title)
        norm = shared_norm(maps, self.threshold)
        for index, (row, residual) in enumerate(zip(self.axes_, maps, strict=True)):
            for ax_, pictures in zip(row, (self.images, self.reconstructions), strict=False):
                ax_.imshow(self._visible(pictures, index), **GREY)
            drawn = row[2].imshow(residual, cmap="cividis", norm=norm)
            self._draw_masks(row, index, residual > self.threshold, truths[index])
        self.colorbar_ = self._add_colorbar(drawn, maps)
        self._add_legend()
        return self

    def _visible(self, pictures: Sequence[np.ndarray] | np.ndarray, index: int) -> np.ndarray:
        picture = visible(pictures[index], self.data_range)
        return dimmed(picture, None if self.counts is None else self.counts[index])

    def _draw_masks(
        self, row: np.ndarray, index: int, found: np.ndarray, truth: np.ndarray | None
    ) -> None:
        draw_outline(row[2], found, FOUND)
        # Pale, so that outlines stand out from whatever the image holds.
        row[3].imshow(0.5 + 0.5 * self._visible(self.images, index), **GREY)
        row[3].imshow(tinted(found, FOUND["color"]))
        draw_outline(row[3], found, FOUND)
        if truth is not None:
            draw_outline(row[3], truth, TRUE)

    def _add_colorbar(self, drawn: Any, maps: list[np.ndarray]) -> Any:
        exceeds = max(float(values.max()) for values in maps) > drawn.norm.vmax
        bar = add_colorbar(
            self.axes_[-1, 2],
            label=f"{self.unit}\nthreshold {self.threshold:.3g}",
            extend="max" if exceeds else "neither",
        )
        bar.ax.axvline(self.threshold, color="white", linewidth=4)
        bar.ax.axvline(self.threshold, color=FOUND["color"], linewidth=2)
        return bar

    def _add_legend(self) -> None:
        from matplotlib.lines import Line2D

        styles = {"found": FOUND} | ({} if self.masks is None else {"true": TRUE})
        handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
        self.axes_[-1, 3].legend(
            handles=handles,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.02),
            ncols=len(handles),
            frameon=False,
            handlelength=2.5,
        )
