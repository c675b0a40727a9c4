"""What good material shows, and maps relative to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor

from sklearn_ssimae._maps.border import BorderProfile
from sklearn_ssimae._maps.look import LookProfile

# σ of the look, as a share of the patch's side: 8 pixels for 128.
_LOOK = 1 / 16


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

    @classmethod
    def fit(
        cls,
        maps: Sequence[tuple[Tensor, Tensor]],
        *,
        patch_size: int,
        logarithmic: bool,
        by_look: bool,
    ) -> Self:
        """Learn it from residual maps of good images that were not trained on.

        Parameters
        ----------
        maps : sequence of (Tensor (h, w), Tensor (k, h, w))
            Smooth residual maps, at least one, and the values that they were compared from.
        patch_size : int
        logarithmic : bool
            Whether the maps are logarithms.
        by_look : bool
            Whether to learn from the look as well. The values are then reconstructions.
        """
        look = LookProfile.fit(maps, sigma=_LOOK * patch_size) if by_look else None
        border = BorderProfile.fit(
            (_by_look(look, smooth[None], values[None])[0] for smooth, values in maps),
            reach=patch_size // 2,
            logarithmic=logarithmic,
        )
        return cls(border, look)

    def relative(self, smooth: Tensor, values: Tensor) -> Tensor:
        """Maps (n, h, w) relative to good material's; 1, of logarithms 0, is its 95 % quantile."""
        return self.border.relative(_by_look(self.look, smooth, values))

    def to_dict(self) -> dict[str, Any]:
        """Numbers and arrays alone."""
        look = None if self.look is None else dict(vars(self.look))
        return {"border": dict(vars(self.border)), "look": look}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Undo `to_dict`."""
        look = stored["look"]
        return cls(BorderProfile(**stored["border"]), None if look is None else LookProfile(**look))


def _by_look(look: LookProfile | None, smooth: Tensor, values: Tensor) -> Tensor:
    return smooth if look is None else look.relative(smooth, values)
