"""What good material shows, and maps relative to it."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor

from sklearn_ssimae._maps.border import BorderProfile
from sklearn_ssimae._maps.look import LookProfile


class GoodMaterial:
    """The residual that good material shows: by the look of the reconstruction, then by distance.

    Parameters
    ----------
    border : BorderProfile
        By the distance to the image's border, of residuals that are relative to `look` if
        there is one.
    look : LookProfile or None
        By the look of the reconstruction.
    """

    def __init__(self, border: BorderProfile, look: LookProfile | None = None) -> None:
        self.border = border
        self.look = look

    def relative(self, smooth: Tensor, values: Tensor) -> Tensor:
        """Maps (n, h, w) relative to good material's; 1, of logarithms 0, is its 95 % quantile."""
        by_look = smooth if self.look is None else self.look.relative(smooth, values)
        return self.border.relative(by_look)

    def to_dict(self) -> dict[str, Any]:
        """Numbers and arrays alone."""
        look = None if self.look is None else dict(vars(self.look))
        return {"border": dict(vars(self.border)), "look": look}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Undo `to_dict`."""
        look = stored["look"]
        return cls(BorderProfile(**stored["border"]), None if look is None else LookProfile(**look))
