"""The residual of good images, and maps relative to it."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor

from sklearn_ssimae._maps.border import LEAST, BorderProfile
from sklearn_ssimae._maps.place import PlaceProfile


class GoodMaterial:
    """The residual of good images: by column and row, then by the distance to the border.

    Parameters
    ----------
    place : PlaceProfile
    border : BorderProfile
        Of residuals that are relative to `place`.
    """

    def __init__(self, place: PlaceProfile, border: BorderProfile) -> None:
        self.place = place
        self.border = border

    def relative(self, smooth: Tensor) -> Tensor:
        """Maps (..., h, w) relative to good images; 1, of logarithms 0, is their 95 % quantile."""
        if not self.border.logarithmic:
            smooth = (smooth - LEAST).clamp(min=0)
        return self.border.relative(self.place.relative(smooth))

    def to_dict(self) -> dict[str, Any]:
        """Numbers and arrays alone."""
        return {"place": dict(vars(self.place)), "border": dict(vars(self.border))}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Undo `to_dict`."""
        return cls(PlaceProfile(**stored["place"]), BorderProfile(**stored["border"]))
