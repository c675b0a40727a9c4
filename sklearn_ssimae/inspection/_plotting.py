"""What the displays share: colours, grids of pictures, outlines. matplotlib is imported late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sklearn_ssimae._extras import install_hint
from sklearn_ssimae.metrics import Images, as_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure, SubFigure

# What a display takes as the place for a grid of pictures: None, axes, or an array of axes.
Place = Any

GREY: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 1}
# 1, no difference, is the dark end.
AGREEMENT: dict[str, Any] = {"cmap": "cividis_r", "vmax": 1}
# Vermilion and blue of Okabe and Ito's palette for the colour-blind.
FOUND: dict[str, Any] = {"color": "#d55e00", "linestyle": "solid", "linewidth": 1.5}
TRUE: dict[str, Any] = {"color": "#0072b2", "linestyle": (0, (3, 1.5)), "linewidth": 1.8}

# Inches of a picture's width, of the room below the pictures, and of a figure at most.
_PICTURE_WIDTH, _BAR_HEIGHT, _FIGURE_WIDTH = 2.6, 1.2, 14.0
# Share of the pixels of all maps that the colour scale leaves out at the bright end: a few
# extreme ones would leave everything else dark.
_SATURATED = 0.002
# Points of a drawn curve are this far apart, of lengths in [0, 2]. A screen shows no more.
_CURVE_STEP = 1e-3


def require_matplotlib(caller: str) -> None:
    """Refuse to continue without matplotlib, before anything is computed."""
    try:
        import matplotlib.pyplot  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{caller} needs matplotlib. {install_hint('plot')}") from error


def axes_or_new(ax: Axes | None, **options: Any) -> Axes:
    """The axes that were given, or those of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    axes: Axes = plt.subplots(layout="constrained", **options)[1]
    return axes


def unit_of(detector: Any) -> str:
    """What the values of a detector's maps say, as the label of a scale."""
    is_logarithm = detector._make_comparison().gives_logarithms
    if detector.residual == "plain":
        return "residual, a logarithm" if is_logarithm else "residual"
    if is_logarithm:
        return "difference from the residual of good images"
    return "times the residual of good images"


def grid_of_axes(
    place: Any, n_rows: int, n_columns: int, picture_shape: tuple[int, ...]
) -> tuple[np.ndarray, Figure]:
    """Axes (n_rows, n_columns) without ticks, and their figure.

    `place` is None for a new figure, axes that are divided, or an array of axes.
    """
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    if isinstance(place, Axes) or place is None:
        figure: Figure | SubFigure
        if place is None:
            width = min(_FIGURE_WIDTH, _PICTURE_WIDTH * n_columns)
            height = width / n_columns * picture_shape[0] / picture_shape[1] * n_rows
            figure = plt.figure(figsize=(width, height + _BAR_HEIGHT), layout="compressed")
        else:
            figure = _divided(place)
        axes = figure.subplots(n_rows, n_columns, squeeze=False)
    else:
        axes = np.asarray(place, dtype=object)
        if axes.shape != (n_rows, n_columns):
            raise ValueError(
                f"ax has the shape {axes.shape}; {n_rows} rows of {n_columns} pictures need "
                f"({n_rows}, {n_columns})."
            )
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    # That of a sub-figure is the whole one.
    return axes, axes[0, 0].figure.figure


def _divided(place: Axes) -> SubFigure:
    """A figure of its own where axes were, so that the layout of the others stays as it is."""
    cell = place.get_subplotspec()
    if cell is None:
        raise ValueError("ax is no cell of a grid. Make it with `plt.subplots`.")
    figure = place.figure
    place.remove()
    return figure.add_subfigure(cell)


def add_colorbar(ax: Axes, **options: Any) -> Colorbar:
    """A colour bar for the picture in `ax`, below it, so that the pictures stay aligned."""
    place = ax.inset_axes((0, -0.12, 1, 0.05))
    return ax.figure.colorbar(ax.images[0], cax=place, orientation="horizontal", **options)


def visible(image: np.ndarray, data_range: tuple[float, float]) -> np.ndarray:
    """An image (h, w) or (h, w, c) in [0, 1] as (h, w) or (h, w, 3)."""
    low, high = data_range
    unit = np.clip((np.asarray(image, dtype=np.float64) - low) / (high - low), 0, 1)
    return unit if unit.ndim == 2 or unit.shape[2] == 3 else unit.mean(axis=2)


def dimmed(picture: np.ndarray, counts: np.ndarray | None) -> np.ndarray:
    """A picture (h, w) or (h, w, 3) in [0, 1], half as bright where pixels do not count."""
    if counts is None:
        return picture
    light = np.where(counts, 1.0, 0.5)
    return picture * (light if picture.ndim == 2 else light[..., None])


def shared_norm(maps: list[np.ndarray], threshold: float) -> Normalize:
    """One colour scale for all maps, which holds the threshold too, and some room beyond."""
    from matplotlib.colors import Normalize

    values = np.concatenate([values.ravel() for values in maps])
    low = min(0.0, float(values.min()), threshold)
    high = max(float(np.quantile(values, 1 - _SATURATED)), low + 1.2 * (threshold - low))
    return Normalize(low, high if high > low else low + 1)


def tinted(mask: np.ndarray, color: str) -> np.ndarray:
    """A picture (h, w, 4), half transparent where the mask is True, else wholly."""
    from matplotlib.colors import to_rgba

    picture = np.zeros((*mask.shape, 4))
    picture[mask] = to_rgba(color, 0.4)
    return picture


def check_truths(masks: Images | None, maps: list[np.ndarray]) -> list[np.ndarray | None]:
    """The masks that belong to the maps; None for each if there are none."""
    if masks is None:
        return [None] * len(maps)
    if len(masks) != len(maps):
        raise ValueError(f"There are {len(masks)} masks for {len(maps)} images.")
    truths: list[np.ndarray | None] = []
    for index, residual in enumerate(maps):
        mask = as_mask(masks[index], index, "masks")
        if mask.shape != residual.shape:
            raise ValueError(
                f"masks[{index}] has the shape {mask.shape}, its image {residual.shape}."
            )
        truths.append(mask)
    return truths


def draw_outline(ax: Axes, mask: np.ndarray, style: dict[str, Any]) -> None:
    """The outline of a mask's True pixels, closed at the image's border."""
    if not mask.any():  # matplotlib warns of a contour that is nowhere
        return
    padded = np.pad(mask, 1).astype(np.float64)
    rows, columns = (np.arange(-1, side + 1) for side in mask.shape)
    view = ax.get_xlim(), ax.get_ylim()
    for colour, width in (("white", style["linewidth"] + 1.2), (style["color"], None)):
        ax.contour(
            columns,
            rows,
            padded,
            levels=[0.5],
            colors=[colour],
            linewidths=[width or style["linewidth"]],
            linestyles=[style["linestyle"]],
        )
    ax.set(xlim=view[0], ylim=view[1])


def as_stack(images: np.ndarray) -> np.ndarray:
    """One image (h, w) as a stack of one, a stack (n, h, w) as it is."""
    array = np.asarray(images)
    return array[None] if array.ndim == 2 else array


def thinned(fpr: np.ndarray, rate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of a curve, those left out that lie nearly where another does."""
    length = np.concatenate([[0.0], np.cumsum(np.diff(fpr) + np.diff(rate))])
    _, kept = np.unique(np.floor(length / _CURVE_STEP), return_index=True)
    kept = np.union1d(kept, len(fpr) - 1)
    return fpr[kept], rate[kept]
