"""The settings of a map, as one value: tried by the choice, kept by the calibration."""

from __future__ import annotations

from dataclasses import dataclass, field

from sklearn_ssimae._maps.good import GoodMaterial
from sklearn_ssimae._maps.harmless import Harmless


@dataclass(frozen=True)
class MapSettings:
    """How maps are made of what a network draws.

    Parameters
    ----------
    stride : int
        Step in pixels between patches.
    smoothing : float
        σ of the Gaussian in pixels; 0 for none.
    constants : dict of float
        What the residual takes by name, such as the constants of SSIM.
    good : GoodMaterial or None
        What smoothed maps are relative to; None for plain residuals.
    opening_diameter : int or None
        Diameter in pixels of the disk of the opening; None for none.
    min_area : float
        Pixels of an image, at its own size, of the smallest region that counts; 0 for none.
    harmless : tuple of Harmless
        Kinds of regions that people called good, lesson by lesson.
    """

    stride: int
    smoothing: float
    constants: dict[str, float] = field(default_factory=dict)
    good: GoodMaterial | None = None
    opening_diameter: int | None = None
    min_area: float = 0
    harmless: tuple[Harmless, ...] = ()
