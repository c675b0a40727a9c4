"""Defects of many kinds and sizes that are drawn into kept images to choose the map."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import ndimage

from sklearn_ssimae.datasets._drawing import (
    PAINTERS,
    Painter,
    blot,
    dent,
    patch,
    smooth_step,
    stain,
)

# Radii of blots, as shares of the patch's side: 8 to 64 pixels for 128, small and large ones
# equally often. Which of them can be found is what the material decides, and with it σ.
_RADII = (1 / 16, 1 / 2)
# Of the shorter side of the image that is drawn on, at most: so much must stay good around it.
_LARGEST = 0.35
_Blot = Callable[[np.ndarray, np.random.RandomState, float], tuple[np.ndarray, np.ndarray]]


def make_probes(patch_size: int) -> dict[str, Painter]:
    """What draws each kind, for detectors of patches of that size.

    The kinds of `add_synthetic_defects`, with blots of all sizes, and three that take the
    texture away: "lump", something opaque with a tone and a grain of its own; "blur", the texture
    without its detail; "grain", noise that is as bright as the texture around it. Constants of
    SSIM that are large hide what is as flat as its surroundings are bright, and the other kinds
    do not show that.
    """
    sized = {kind: partial(_of_any_size, painter, patch_size) for kind, painter in BLOTS.items()}
    return {"scratch": PAINTERS["scratch"], "thread": PAINTERS["thread"], **sized}


def _of_any_size(
    painter: _Blot, patch_size: int, canvas: np.ndarray, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    side = min(canvas.shape[:2])
    radius = np.exp(random.uniform(*np.log(_RADII))) * patch_size / side
    return painter(canvas, random, min(radius, _LARGEST))


def _lump(
    canvas: np.ndarray, random: np.random.RandomState, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    grain = 0.08 * _noise(canvas.shape[:2], random, fineness=1.0)
    return _covered(canvas, random, radius, random.uniform() + grain[..., None])


def _blur(
    canvas: np.ndarray, random: np.random.RandomState, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    return _covered(canvas, random, radius, ndimage.gaussian_filter(canvas, (5, 5, 0)))


def _grain(
    canvas: np.ndarray, random: np.random.RandomState, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    noise = _noise(canvas.shape[:2], random, fineness=random.uniform(0.5, 1.5))
    contrast = random.uniform(0.3, 1) * canvas.std()
    around = ndimage.gaussian_filter(canvas, (8, 8, 0))
    return _covered(canvas, random, radius, around + contrast * noise[..., None])


def _covered(
    canvas: np.ndarray, random: np.random.RandomState, radius: float, cover: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The image with `cover` in place of the texture within a blot, and the blot's weight."""
    distance, _ = blot(canvas.shape[:2], random, radius=radius)
    weight = smooth_step((1.1 - distance) / 0.25)
    return canvas + weight[..., None] * (cover - canvas), weight


def _noise(shape: tuple[int, ...], random: np.random.RandomState, *, fineness: float) -> np.ndarray:
    """Noise (h, w) of deviation 1, smoothed by a Gaussian of σ = `fineness` pixels."""
    noise: np.ndarray = ndimage.gaussian_filter(random.normal(size=shape), fineness)
    return noise / noise.std()


#: Kinds that are drawn at a given radius, in units of the image's shorter side.
BLOTS: dict[str, _Blot] = {
    "stain": stain,
    "dent": dent,
    "patch": patch,
    "lump": _lump,
    "blur": _blur,
    "grain": _grain,
}
