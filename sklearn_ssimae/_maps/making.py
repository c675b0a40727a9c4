"""From images to finished residual maps: reconstruct, compare, finish; where need be, twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from sklearn_ssimae._maps.border import LEAST
from sklearn_ssimae._maps.filters import gaussian_smoothing, grey_opening
from sklearn_ssimae._maps.good import GoodMaterial
from sklearn_ssimae._maps.tiling import map_patches

Tag = TypeVar("Tag")

# What exceeds the level by this share of it is replaced altogether, what exceeds it by less in
# part: so rounding alters no map by more than rounding.
_SOFTNESS = 1 / 3


class Comparison:
    """What is averaged where patches overlap, and which residual the averages have.

    Parameters
    ----------
    reconstruct : callable
        Patches (n, c, p, p) in [0, 1] to their reconstructions, of the same shape.
    residual : callable
        Images (n, c, h, w) and reconstructions to residual maps (n, h, w), larger = more
        anomalous.
    aggregate : {"reconstruction", "residual"}
        What is averaged.
    """

    #: Whether the values are logarithms of what is averaged.
    averages_logarithms = False
    #: Whether values can be reconstructions, as `aggregate` says.
    has_reconstructions = True

    def __init__(
        self,
        reconstruct: Callable[[Tensor], Tensor],
        residual: Callable[[Tensor, Tensor], Tensor],
        aggregate: str,
    ) -> None:
        self.reconstruct = reconstruct
        self.residual = residual
        self.aggregate = aggregate

    @property
    def averages_reconstructions(self) -> bool:
        """Whether the values are reconstructions."""
        return self.has_reconstructions and self.aggregate == "reconstruction"

    def patch_values(self, patches: Tensor) -> Tensor:
        """What is averaged: (n, c, p, p) to (n, k, p, p)."""
        reconstructions = self.reconstruct(patches)
        if self.aggregate == "reconstruction":
            return reconstructions
        return self.residual(patches, reconstructions)[:, None]

    def compare(self, images: Tensor, values: Tensor) -> Tensor:
        """Residual maps (n, h, w) of images (n, c, h, w) and averaged values (n, k, h, w)."""
        if self.aggregate == "reconstruction":
            return self.residual(images, values)
        return values[:, 0]


class MapMaker:
    """The way from images to maps: all of it, or its steps one by one.

    `reconstruct` runs the network and is what takes the time; `compare` and `finish` can be
    taken again with other settings. All of it works on tensors on one device.

    `maps` takes a second look where `level` says so. A reconstruction is bent towards a defect in
    the patch: it redraws some of it, and spoils what lies around. With what exceeds the level
    replaced by its reconstruction, the network sees an image that is nearer to a good one, and
    what it draws there is what the image is held against. Images that nowhere exceed the level
    are looked at once.

    Parameters
    ----------
    comparison : Comparison
    patch_size, stride : int
        Side of the patches and step between them. A step longer than a patch would leave
        gaps, and is cut to one.
    smoothing : float
        σ of the Gaussian in pixels; 0 for none.
    good : GoodMaterial or None
        What smoothed maps are relative to; None for plain residuals.
    level : float or None
        Value of finished maps beyond which pixels are replaced for the second look; None for
        none. Without reconstructions to replace them by there is none.
    opening_diameter : int or None
        Diameter of the disk of the opening in pixels.
    device : torch.device
        Where the comparison runs.
    """

    def __init__(
        self,
        comparison: Comparison,
        *,
        patch_size: int,
        stride: int,
        smoothing: float,
        good: GoodMaterial | None,
        level: float | None,
        opening_diameter: int | None,
        device: torch.device,
    ) -> None:
        self.comparison = comparison
        self.patch_size = patch_size
        self.stride = min(stride, patch_size)
        self.smoothing = smoothing
        self.good = good
        self.level = level if comparison.averages_reconstructions else None
        self.opening_diameter = opening_diameter
        self.device = device

    def reconstruct(
        self, images: Iterable[tuple[Tag, Tensor]]
    ) -> Iterator[tuple[Tag, Tensor, Tensor]]:
        """Averaged values (k, h, w) of images (c, h, w), which carry a tag each.

        Images are taken one at a time, as patches are needed.

        Yields
        ------
        tag, image, values : object, Tensor (c, h, w) and Tensor (k, h, w)
        """
        comparison = self.comparison
        return self.average(
            images, comparison.patch_values, log_mean=comparison.averages_logarithms
        )

    def average(
        self,
        images: Iterable[tuple[Tag, Tensor]],
        function: Callable[[Tensor], Tensor],
        *,
        log_mean: bool = False,
    ) -> Iterator[tuple[Tag, Tensor, Tensor]]:
        """As `reconstruct`, for another function of patches."""

        @torch.no_grad()
        def values(patches: Tensor) -> Tensor:
            # The memory format that a network's kernels are fastest in.
            return function(patches.contiguous(memory_format=torch.channels_last))

        return map_patches(
            ((tag, image.to(self.device)) for tag, image in images),
            values,
            patch_size=self.patch_size,
            stride=self.stride,
            log_mean=log_mean,
        )

    def compare(self, images: Tensor, values: Tensor) -> Tensor:
        """Residual maps (n, h, w) of images (n, c, h, w) and their averaged values."""
        return self.comparison.compare(images, values)

    def finish(self, residuals: Tensor, values: Tensor) -> Tensor:
        """Residual maps (n, h, w) smoothed, made relative, opened.

        `values` are those that the maps were compared from.
        """
        smooth = gaussian_smoothing(residuals, self.smoothing)
        relative = smooth if self.good is None else self.good.relative(smooth, values)
        return grey_opening(relative, self.opening_diameter)

    def maps(self, images: Iterable[tuple[Tag, Tensor]]) -> Iterator[tuple[Tag, Tensor]]:
        """Finished maps (h, w) of images (c, h, w), which are tagged as in `reconstruct`."""
        for tag, _, found in self.maps_and_values(images):
            yield tag, found

    def maps_and_values(
        self, images: Iterable[tuple[Tag, Tensor]]
    ) -> Iterator[tuple[Tag, Tensor, Tensor]]:
        """As `maps`, with the averaged values (k, h, w) of the image itself before each map."""
        for tag, image, values in self.reconstruct(images):
            found = self._map(image, values)
            if self.level is not None and bool((found > self.level).any()):
                repaired = repair(image[None], values[None], found[None], self.level)[0]
                for _, _, again in self.reconstruct([(tag, repaired)]):
                    found = self._map(image, again)
            yield tag, values, found

    def _map(self, image: Tensor, values: Tensor) -> Tensor:
        residuals = self.compare(image[None], values[None])
        return self.finish(residuals, values[None])[0]


def repair(images: Tensor, reconstructions: Tensor, maps: Tensor, level: float) -> Tensor:
    """Images (n, c, h, w) with their reconstructions where maps (n, h, w) exceed the level."""
    share = ((maps - level) / max(_SOFTNESS * level, LEAST)).clamp(0, 1)
    return images + (reconstructions - images) * share[:, None]
