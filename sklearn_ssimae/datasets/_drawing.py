"""Defects drawn into images: what each kind looks like, and which pixels it alters."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from scipy import ndimage
from skimage.morphology import isotropic_closing
from sklearn.utils import check_random_state

# A pixel counts as altered when a channel changes by this share of the range (8 grey levels
# of 256), and a defect is kept when this share of what was drawn is altered.
_VISIBLE = 0.03
_VISIBLE_SHARE = 0.4
_ATTEMPTS = 30
#: Side of an image in pixels below which nothing is drawn: a scratch would be a pixel.
MIN_SIDE = 16


def one_state_each(
    random_state: int | np.random.RandomState | None, n: int
) -> Iterable[np.random.RandomState]:
    """A generator for each image: no image depends on what was drawn into the others."""
    seeds = check_random_state(random_state).randint(np.iinfo(np.int32).max, size=n)
    return map(np.random.RandomState, seeds)


def draw_defect(
    canvas: np.ndarray,
    kinds: list[str],
    random: np.random.RandomState,
    index: int,
    painters: dict[str, Painter] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One visible defect drawn into an image (h, w, c), and its mask (h, w).

    `painters` holds what draws each kind, `PAINTERS` by default.
    """
    painters = painters or PAINTERS
    for _ in range(_ATTEMPTS):
        altered, weight = painters[kinds[random.randint(len(kinds))]](canvas, random)
        altered = np.clip(altered, 0, 1)
        visible = np.abs(altered - canvas).max(axis=-1) >= _VISIBLE
        core = weight > 0.5
        if core.sum() >= min(canvas.shape[:2]) / 4 and visible[core].mean() >= _VISIBLE_SHARE:
            mask = _outline(visible, weight)
            return np.where(mask[..., None], altered, canvas), mask
    raise ValueError(
        f"image {index}: {_ATTEMPTS} attempts at {kinds} left nothing visible. Flat images show "
        "no dent and no patch; add 'scratch' or 'stain' to kinds."
    )


def _outline(visible: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mask (h, w) of a defect: its visible pixels and the gaps between them.

    Gaps up to the thickness of the defect are closed: a strand has next to none, and in a
    moved patch some pixels match by chance.
    """
    drawn = weight > 0.1
    box = ndimage.find_objects(drawn.astype(np.uint8))[0]
    thickness = ndimage.distance_transform_edt(weight[box] > 0.5).max()
    mask = np.zeros_like(drawn)
    mask[box] = isotropic_closing(visible[box], thickness / 2) & drawn[box]
    return mask


def _scratch(canvas: np.ndarray, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    shape, side = canvas.shape[:2], min(canvas.shape[:2])
    points = curve(shape, random, length=random.uniform(0.2, 0.6) * side, bend=0.15)
    along = np.linspace(0, np.pi, len(points))
    width = max(0.6, random.uniform(0.003, 0.006) * side)
    radii = width * np.sqrt(np.sin(along).clip(0)) * (1 + 0.3 * _smooth_noise(random, len(points)))
    groove = coverage(shape, points, radii)
    flank = coverage(shape, points + 1.5 * width * _direction(random), radii)
    tone = _tone(canvas, groove, random)
    altered = canvas + 0.25 * flank[..., None] * (1 - tone - canvas)
    altered += random.uniform(0.5, 0.9) * groove[..., None] * (tone - altered)
    return altered, np.maximum(groove, 0.6 * flank)


def _thread(canvas: np.ndarray, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    shape, side = canvas.shape[:2], min(canvas.shape[:2])
    points = curve(shape, random, length=random.uniform(0.4, 1.0) * side, bend=1.2)
    width = max(0.8, random.uniform(0.004, 0.008) * side)
    radii = width * (1 + 0.15 * _smooth_noise(random, len(points)))
    strand = coverage(shape, points, radii)
    ridge = coverage(shape, points, radii / 2)
    shadow = coverage(shape, points + 1.2 * width * _direction(random), radii)
    shadow = ndimage.gaussian_filter(shadow, width / 2)
    tone = _tone(canvas, strand, random)
    altered = canvas * (1 - 0.3 * shadow[..., None])
    altered += strand[..., None] * ((0.75 + 0.25 * ridge[..., None]) * tone - altered)
    return altered, np.maximum(strand, 0.4 * shadow)


def stain(
    canvas: np.ndarray, random: np.random.RandomState, radius: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    distance, _ = blot(canvas.shape[:2], random, radius=radius or random.uniform(0.05, 0.14))
    weight = smooth_step((1.15 - distance) / 0.3)
    strength = random.uniform(0.3, 0.5) * random.uniform(0.6, 1, size=canvas.shape[-1])
    # Stains dry darkest at the rim.
    dose = weight * (0.75 + 0.25 * smooth_step((distance - 0.6) / 0.3))
    tone = _tone(canvas, weight, random)
    return canvas + dose[..., None] * strength * (tone - canvas), weight


def dent(
    canvas: np.ndarray, random: np.random.RandomState, radius: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    distance, centre = blot(canvas.shape[:2], random, radius=radius or random.uniform(0.06, 0.14))
    weight = (1 - (distance / 1.3).clip(max=1) ** 2) ** 2
    pull = random.uniform(0.35, 0.6) * random.choice([-1, 1])
    positions = np.moveaxis(np.indices(canvas.shape[:2]), 0, -1)
    altered = _sample(canvas, positions - pull * weight[..., None] * (positions - centre))
    slope = np.tensordot(np.gradient(weight), _direction(random), axes=(0, 0))
    shade = random.uniform(0.1, 0.2) * slope / max(np.abs(slope).max(), 1e-12)
    return altered + shade[..., None], weight


def patch(
    canvas: np.ndarray, random: np.random.RandomState, radius: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    shape = canvas.shape[:2]
    distance, centre = blot(shape, random, radius=radius or random.uniform(0.06, 0.12))
    weight = smooth_step((1.1 - distance) / 0.2)
    angle, zoom = random.uniform(np.pi / 4, 7 * np.pi / 4), 2 ** random.choice([-0.7, 0.7])
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    positions = np.moveaxis(np.indices(shape), 0, -1)
    source = random.uniform(0.2, 0.8, size=2) * shape
    moved = _sample(canvas, (positions - centre) @ turn.T + source)
    return canvas + weight[..., None] * (moved - canvas), weight


Painter = Callable[[np.ndarray, np.random.RandomState], tuple[np.ndarray, np.ndarray]]
# Each takes an image (h, w, c) in [0, 1] and returns it with a defect, and the defect's
# weight (h, w) in [0, 1]. Those of blots also take their radius, in units of the shorter side.
PAINTERS: dict[str, Painter] = {
    "scratch": _scratch,
    "stain": stain,
    "dent": dent,
    "thread": _thread,
    "patch": patch,
}


def curve(
    shape: tuple[int, ...], random: np.random.RandomState, *, length: float, bend: float
) -> np.ndarray:
    """Points (n, 2), half a pixel apart, of a curve about a point within the image.

    `bend` is the standard deviation, in radians, of the change of heading from one fifth of
    the curve to the next.
    """
    n_points = max(2, int(2 * length))
    turns = np.cumsum(random.normal(scale=bend, size=6))
    heading = random.uniform(0, 2 * np.pi) + np.interp(
        np.linspace(0, 5, n_points), np.arange(6), turns
    )
    points = np.cumsum(0.5 * np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0)
    return points - points.mean(axis=0) + random.uniform(0.2, 0.8, size=2) * shape


def coverage(shape: tuple[int, ...], points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Share of each pixel (h, w) that is covered by a round brush led along `points`."""
    reach = int(radii.max()) + 2
    offsets = np.indices((2 * reach + 1, 2 * reach + 1)).reshape(2, -1).T - reach
    pixels = np.rint(points).astype(int)[:, None] + offsets
    distances = np.linalg.norm(pixels - points[:, None], axis=-1)
    # A brush thinner than a pixel covers at most its diameter.
    amounts = np.clip(radii[:, None] + 0.5 - distances, 0, np.minimum(1, 2 * radii)[:, None])
    inside = ((pixels >= 0) & (pixels < shape)).all(axis=-1)
    covered = np.zeros(shape)
    np.maximum.at(covered, tuple(pixels[inside].T), amounts[inside])
    return covered


def blot(
    shape: tuple[int, ...], random: np.random.RandomState, *, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Distance (h, w) from a centre, in units of an irregular outline, and the centre.

    `radius` is in units of the image's shorter side.
    """
    centre = random.uniform(0.15, 0.85, size=2) * shape
    rows, columns = np.moveaxis(np.moveaxis(np.indices(shape), 0, -1) - centre, -1, 0)
    angle = np.arctan2(rows, columns)
    outline = np.ones(shape)
    for order in range(1, 6):
        phase = random.uniform(0, 2 * np.pi)
        outline += random.normal(scale=0.2 / order) * np.cos(order * angle + phase)
    return np.hypot(rows, columns) / (radius * min(shape) * outline.clip(0.4)), centre


def _sample(canvas: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The image (h, w, c) at positions (h, w, 2), mirrored beyond its borders."""
    coordinates = np.moveaxis(positions, -1, 0)
    channels = [
        ndimage.map_coordinates(channel, coordinates, order=1, mode="reflect")
        for channel in np.moveaxis(canvas, -1, 0)
    ]
    return np.stack(channels, axis=-1)


def smooth_step(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _smooth_noise(random: np.random.RandomState, n: int) -> np.ndarray:
    """Values (n,) in [-1, 1] that change about ten times."""
    return np.interp(np.linspace(0, 10, n), np.arange(11), random.uniform(-1, 1, size=11))


def _direction(random: np.random.RandomState) -> np.ndarray:
    angle = random.uniform(0, 2 * np.pi)
    return np.array([np.sin(angle), np.cos(angle)])


def _tone(canvas: np.ndarray, weight: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """A dark or light colour (c,), dark the likelier the lighter the image is there."""
    mean = np.average(canvas.mean(axis=-1), weights=weight + 1e-9)
    shade = np.asarray(random.uniform(0, 0.15, size=canvas.shape[-1]))
    return shade if random.uniform() < mean else 1 - shade
