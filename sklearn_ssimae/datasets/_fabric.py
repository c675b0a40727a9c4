"""Photographs of woven cloth, good and with the faults of weaving, and exact masks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.morphology import isotropic_closing
from sklearn.utils import Bunch

from sklearn_ssimae.datasets._cloth import SCALE, Article, Cloth, surface, weave_cloth
from sklearn_ssimae.datasets._drawing import one_state_each
from sklearn_ssimae.datasets._fabric_defects import DEFECTS, add_defect

# Calico, serge and a warp-faced satin of five ends; yarns 7 to 8 pixels wide.
ARTICLES = {
    "plain": Article(2, up=1, step=1, pitch=(8, 8), cover=(0.86, 0.92), tone=(0.6, 0.7)),
    "twill": Article(4, up=2, step=3, pitch=(7, 8), cover=(0.92, 0.92), tone=(0.5, 0.72)),
    "satin": Article(5, up=4, step=2, pitch=(6, 8), cover=(1.25, 0.9), tone=(0.68, 0.62)),
}

# Below this side there are hardly four yarns of each system to see.
_MIN_SIDE = 32
_MAX_TURN = float(np.deg2rad(1.5))
_HAIR_TONE = 0.05
_LENS_BLUR = 0.6  # standard deviation, in pixels
_READ_NOISE, _SHOT_NOISE = 0.006, 0.0002  # standard deviation; variance over the signal
# A pixel shows a defect when it changes by this share of the range (10 grey levels of 256);
# pixels between are the defect's too, and in all there is about one crossing of two yarns.
_VISIBLE, _GAP, _MIN_AREA = 0.04, 6.0, 50


def make_fabric(
    n_samples: int = 100,
    *,
    size: int | tuple[int, int] = 256,
    weave: str = "plain",
    defects: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Make photographs of woven cloth, good or with the faults of weaving.

    The cloth is made of yarns, warp and weft, which pass over and under each other as the
    weave has it. It repeats itself, as cloth does, and no two places are the same. Each image
    shows another piece of the same article: calls with another `random_state` or `size` add
    to it. Use good images to learn from and defective ones to test on.

    Parameters
    ----------
    n_samples : int, default=100
        Number of images.
    size : int or tuple (h, w), default=256
        Side, or height and width, of the images in pixels, at least 32. A larger image shows
        more of the cloth, not the cloth larger.
    weave : {"plain", "twill", "satin"}, default="plain"
        How the yarns cross; the repeat of the weave is about 16 × 16, 32 × 28 or 40 × 30
        pixels (h × w).

        - "plain": each yarn over one, under one.
        - "twill": 2/2, over two and under two, one further at each pick: diagonal lines. The
          warp is darker than the weft.
        - "satin": of five ends, with a face of warp: the ends lie over four picks and under
          one, and no two neighbours at the same pick.
    defects : bool, default=False
        Put one defect into each image; image i gets the kind i modulo 8 of these.

        - "missing_pick": a yarn of the weft is missing, all along or from a point on. The
          yarns beside it close up in part.
        - "broken_end": a yarn of the warp is missing likewise.
        - "float": a few yarns miss their crossings and lie bare over five to nine others.
        - "slub": a yarn swells to two or three times its thickness over 45 to 180 pixels.
        - "hole": yarns of both systems are torn within an oval, 10 to 28 pixels wide.
        - "stain": oil or dirt darkens the yarns within 20 to 60 pixels by a third or half.
        - "foreign_thread": a dark or light thread lies on the cloth, 60 to 160 pixels long.
        - "loose_weft": a yarn of the weft snarls, and stands off the cloth, over 50 to 130
          pixels.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same images each time. Image i does not depend on `n_samples`,
        and its cloth not on `defects`.

    Returns
    -------
    data : Bunch
        images : ndarray of shape (n_samples, h, w), float32
            Values in [0, 1].
        masks : ndarray of shape (n_samples, h, w), bool
            True on the defects: where the photograph without the sensor's noise differs by 4 %
            of the range or more from that of the same cloth without the defect, and in gaps of
            up to 12 pixels between such places. All other pixels are exactly those of the good
            image with the same `random_state`. Good images' masks are False everywhere.
        kinds : list of str
            What is wrong with each image, one of the words above or "good".
        DESCR : str
            The weave, and how many images of which kind there are.

    Raises
    ------
    ValueError
        When `n_samples` or `size` is too small, or `weave` is none of those above.

    See Also
    --------
    add_synthetic_defects : Draws defects into images of any material.

    Notes
    -----
    A yarn's axis rises by h/2 over the yarns that it crosses, and falls by as much under them;
    the heights h of warp and weft add up to the thickness of both yarns [1]_, here in equal
    parts. Yarns are flattened, and more so where they float. Their thickness, place and
    brightness wander along them and differ from one to the next by a few percent; ridges run
    around them with the twist (Z), and single fibres stand out. End i lies over pick j where
    (i - s j) modulo r is less than u [2]_: r, u, s are 2, 1, 1 (plain), 4, 2, 3 (twill) and
    5, 4, 2 (satin).

    The surface is lit from the upper left, by a lamp and in part from all around, and is matt
    with a slight gloss. Images differ in the yarns, in the place within the repeat, in rotation
    (up to 1.5°), in waviness (up to 2 pixels), in the lamp's direction, in brightness (5 %) and
    in its fall over the image. Blur of a lens (0.6 pixels) and a sensor's noise (1 %) follow.

    Defects are those that weavers have names for [3]_. Each changes the yarns, not the image,
    and the cloth is photographed once more.

    References
    ----------
    .. [1] F. T. Peirce, "The Geometry of Cloth Structure", Journal of the Textile Institute
       Transactions 28(3), T45-T96, 1937.
    .. [2] W. Watson, "Textile Design and Colour: Elementary Weaves and Figured Fabrics",
       Longmans, Green and Co., 1912.
    .. [3] ASTM D3990, "Standard Terminology Relating to Fabric Defects".

    Examples
    --------
    >>> from sklearn_ssimae.datasets import make_fabric
    >>> train = make_fabric(2, weave="twill", random_state=0)
    >>> test = make_fabric(3, weave="twill", defects=True, random_state=1)
    >>> test.images.shape, test.kinds
    ((3, 256, 256), ['missing_pick', 'broken_end', 'float'])
    >>> train.DESCR
    'twill: 2 good.'
    """
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples!r}.")
    if weave not in ARTICLES:
        raise ValueError(f"weave must be one of {', '.join(map(repr, ARTICLES))}, got {weave!r}.")
    shape = _check_size(size)
    images = np.empty((n_samples, *shape), dtype=np.float32)
    masks = np.zeros(images.shape, dtype=bool)
    kinds = [
        list(DEFECTS)[index % len(DEFECTS)] if defects else "good" for index in range(n_samples)
    ]
    for index, random in enumerate(one_state_each(random_state, n_samples)):
        shot = _set_up(shape, random)
        cloth = weave_cloth(ARTICLES[weave], shot.reach, random)
        image = shot.take(cloth)
        if defects:
            image, masks[index] = _spoil(image, cloth, shot, kinds[index], random)
        images[index] = shot.expose(image)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(kinds).items()))
    return Bunch(images=images, masks=masks, kinds=kinds, DESCR=f"{weave}: {counts}.")


def _check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    sides = np.ravel(size)
    if sides.dtype.kind not in "iu" or len(sides) > 2 or sides.min() < _MIN_SIDE:
        raise ValueError(
            f"size must be a side or (h, w) in whole pixels, each at least {_MIN_SIDE}, "
            f"got {size!r}."
        )
    return int(sides[0]), int(sides[-1])


def _spoil(
    good: np.ndarray, cloth: Cloth, shot: Shot, kind: str, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """The image (h, w) of the cloth with a defect that shows, and the defect's mask (h, w)."""
    mask = np.zeros(good.shape, dtype=bool)
    # In a small view, most of a thread may lie beside it.
    while mask.sum() < _MIN_AREA:
        bad = shot.take(add_defect(cloth, kind, shot.view, random))
        mask = isotropic_closing(np.abs(bad - good) >= _VISIBLE, _GAP)
    return np.where(mask, bad, good), mask


@dataclass(frozen=True)
class Shot:
    """How a piece of cloth lies before the camera, and in what light."""

    places: np.ndarray  # rows and columns of the surface that pixels show (2, h, w)
    reach: tuple[int, int]  # shape of the surface
    view: tuple[slice, slice]  # the part of it that is seen, but for the turn
    light: tuple[float, float, float]  # direction to the light: down, right, up; of length 1
    exposure: np.ndarray  # (h, w)
    noise: np.ndarray  # (h, w)

    def take(self, cloth: Cloth) -> np.ndarray:
        """The noiseless image (h, w) of a cloth."""
        height, tone = surface(cloth)
        lit = _shade(height, tone, self.light, cloth.warp.pitch) + _HAIR_TONE * cloth.hairs
        lit = ndimage.gaussian_filter(lit, SCALE * _LENS_BLUR, truncate=3)
        return self.exposure * ndimage.map_coordinates(lit, self.places, order=1)

    def expose(self, image: np.ndarray) -> np.ndarray:
        """The image in [0, 1] with the noise of a sensor."""
        noise = self.noise * np.sqrt(_READ_NOISE**2 + _SHOT_NOISE * image)
        return np.clip(image + noise, 0, 1)


def _set_up(size: tuple[int, int], random: np.random.RandomState) -> Shot:
    turn = random.uniform(-_MAX_TURN, _MAX_TURN)
    down, right = np.ogrid[: size[0], : size[1]]
    down, right = down - (size[0] - 1) / 2, right - (size[1] - 1) / 2
    margin = int(np.ceil(np.sin(_MAX_TURN) * max(size) / 2)) + 4
    rows = np.cos(turn) * down + np.sin(turn) * right + _waves(right, random)
    columns = np.cos(turn) * right - np.sin(turn) * down + _waves(down, random)
    places = np.stack([rows + (size[0] - 1) / 2, columns + (size[1] - 1) / 2]) + margin
    azimuth, elevation = np.deg2rad(random.uniform((200, 42), (250, 52)))
    flat = np.cos(elevation)
    fall = random.uniform(-0.06, 0.06, size=2)
    return Shot(
        places=SCALE * places,
        reach=(SCALE * (size[0] + 2 * margin), SCALE * (size[1] + 2 * margin)),
        view=(
            slice(SCALE * margin, SCALE * (margin + size[0])),
            slice(SCALE * margin, SCALE * (margin + size[1])),
        ),
        light=(
            float(flat * np.sin(azimuth)),
            float(flat * np.cos(azimuth)),
            float(np.sin(elevation)),
        ),
        exposure=random.uniform(0.95, 1.05)
        * (1 + fall[0] * down / size[0] + fall[1] * right / size[1]),
        noise=random.normal(size=size),
    )


def _waves(positions: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Two long waves, of up to a pixel each: cloth never lies quite straight."""
    waves = np.zeros(positions.shape)
    for _ in range(2):
        phase = random.uniform(0, 2 * np.pi) + 2 * np.pi / random.uniform(90, 300) * positions
        waves += random.uniform(0.2, 1) * np.sin(phase)
    return waves


def _shade(
    height: np.ndarray, tone: np.ndarray, light: tuple[float, float, float], pitch: float
) -> np.ndarray:
    """Light (h, w) that a surface sends straight up."""
    down, right = np.gradient(height)
    upright = 1 / np.sqrt(1 + down**2 + right**2)
    matt = ((light[2] - light[0] * down - light[1] * right) * upright).clip(0)
    # Blinn's gloss: how near the surface comes to a mirror between light and camera.
    half = float(np.sqrt(2 + 2 * light[2]))
    gloss = ((light[2] + 1 - light[0] * down - light[1] * right) * upright / half).clip(0)
    for _ in range(3):
        gloss *= gloss
    # Little light of the surroundings comes into hollows.
    hollow = (ndimage.uniform_filter(height, int(pitch)) - height).clip(0)
    return (tone * (0.3 + 0.7 * matt) + 0.07 * gloss) * np.exp(-2 / pitch * hollow)
