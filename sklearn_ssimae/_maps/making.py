"""From images to finished residual maps: reconstruct, compare, finish."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from sklearn_ssimae._maps.areas import without_small_regions
from sklearn_ssimae._maps.counting import blank, smooth_counting, split_counts
from sklearn_ssimae._maps.filters import grey_opening
from sklearn_ssimae._maps.settings import MapSettings
from sklearn_ssimae._maps.tiling import map_patches

Tag = TypeVar("Tag")


class Comparison:
    """What is averaged where patches overlap, and which residual the averages have.

    Parameters
    ----------
    reconstruct : callable
        Patches (n, c, p, p) in [0, 1] to their reconstructions, of the same shape.
    residual : callable
        Images (n, c, h, w), reconstructions and, by name, the map's constants to residual maps
        (n, h, w), larger = more anomalous.
    aggregate : {"reconstruction", "residual"}
        What is averaged.
    """

    #: Whether the values are logarithms of what is averaged.
    averages_logarithms = False
    #: Whether values can be reconstructions, as `aggregate` says.
    has_reconstructions = True
    #: Whether residuals are logarithms: compared by difference, and negative at times.
    gives_logarithms = False

    def __init__(
        self,
        reconstruct: Callable[[Tensor], Tensor],
        residual: Callable[..., Tensor],
        aggregate: str,
    ) -> None:
        self.reconstruct = reconstruct
        self.residual = residual
        self.aggregate = aggregate

    @property
    def averages_reconstructions(self) -> bool:
        """Whether the values are reconstructions."""
        return self.has_reconstructions and self.aggregate == "reconstruction"

    def patch_values(self, patches: Tensor, constants: Mapping[str, float]) -> Tensor:
        """What is averaged: (n, c, p, p) to (n, k, p, p)."""
        reconstructions = self.reconstruct(patches)
        if self.aggregate == "reconstruction":
            return reconstructions
        return self.residual(patches, reconstructions, **constants)[:, None]

    def compare(self, images: Tensor, values: Tensor, constants: Mapping[str, float]) -> Tensor:
        """Residual maps (n, h, w) of images (n, c, h, w) and averaged values (n, k, h, w)."""
        if self.aggregate == "reconstruction":
            return self.residual(images, values, **constants)
        return values[:, 0]


class MapMaker:
    """The way from images to maps: all of it, or its steps one by one.

    `reconstruct` runs the network and is what takes the time; `compare` and `finish` can be
    taken again with other settings. All of it works on tensors on one device.

    Parameters
    ----------
    comparison : Comparison
    settings : MapSettings
        A step longer than a patch would leave gaps, and is cut to one.
    patch_size, n_channels : int
        Of the network.
    device : torch.device
        Where the comparison runs.
    """

    def __init__(
        self,
        comparison: Comparison,
        settings: MapSettings,
        *,
        patch_size: int,
        n_channels: int,
        device: torch.device,
    ) -> None:
        self.comparison = comparison
        self.settings = settings
        self.patch_size = patch_size
        self.n_channels = n_channels
        self.device = device

    def with_settings(self, **changes: Any) -> Self:
        """The same with other settings."""
        changed = copy.copy(self)
        changed.settings = replace(self.settings, **changes)
        return changed

    @property
    def stride(self) -> int:
        """The step between patches."""
        return min(self.settings.stride, self.patch_size)

    def reconstruct(
        self, images: Iterable[tuple[Tag, Tensor]]
    ) -> Iterator[tuple[Tag, Tensor, Tensor]]:
        """Averaged values (k, h, w) of images (c, h, w), which carry a tag each.

        Images are taken one at a time, as patches are needed.

        Yields
        ------
        tag, image, values : object, Tensor (c, h, w) and Tensor (k, h, w)
        """
        return self.average(images, self.patch_values, log_mean=self.comparison.averages_logarithms)

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

    def patch_values(self, patches: Tensor) -> Tensor:
        """What is averaged of patches (n, c, p, p): (n, k, p, p)."""
        return self.comparison.patch_values(patches, self.settings.constants)

    def compare(self, images: Tensor, values: Tensor) -> Tensor:
        """Residual maps (n, h, w) of images (n, c, h, w) and their averaged values."""
        return self.comparison.compare(images, values, self.settings.constants)

    def finish(self, residuals: Tensor, counts: Tensor | None = None) -> Tensor:
        """Residual maps (n, h, w) smoothed, made relative, opened.

        `counts` (n, h, w) is None where all pixels count.
        """
        return self.finish_smooth(self.smooth(residuals, counts), counts)

    def smooth(self, residuals: Tensor, counts: Tensor | None) -> Tensor:
        """The first step of `finish`."""
        return smooth_counting(residuals, counts, self.settings.smoothing)

    def finish_smooth(self, smooth: Tensor, counts: Tensor | None) -> Tensor:
        """The steps of `finish` that follow the smoothing; what does not count may be anything."""
        settings, logarithmic = self.settings, self.comparison.gives_logarithms
        relative = smooth if settings.good is None else settings.good.relative(smooth)
        inside = blank(relative, counts, logarithmic=logarithmic)
        opened = grey_opening(inside, settings.opening_diameter)
        return blank(opened, counts, logarithmic=logarithmic)

    def maps(self, images: Iterable[tuple[Tag, Tensor]]) -> Iterator[tuple[Tag, Tensor]]:
        """Finished maps (h, w) of images (c, h, w), which are tagged as in `reconstruct`.

        Of images that do not count everywhere, the planes are those of `with_counts`.
        """
        for tag, _, found in self.maps_and_values(images):
            yield tag, found

    def maps_and_values(
        self, images: Iterable[tuple[Tag, Tensor]]
    ) -> Iterator[tuple[Tag, Tensor, Tensor]]:
        """As `maps`, with the averaged values (k, h, w) of the image itself before each map."""
        for (tag, counts), image, values in self.reconstruct(self.split(images)):
            residuals = self.compare(image[None], values[None])
            found = self.finish(residuals, counts)[0]
            yield tag, values, found

    def without_some_regions(
        self, residual: np.ndarray, *, threshold: float = math.inf, share: float = 1.0
    ) -> np.ndarray:
        """A finished map (h, w), at the size of its image, without regions that do not count.

        Those below `min_area`: above `threshold`, and above what 19 in 20 pixels of good material
        show if that is less. And those like what people called good.
        `share` is the area of the map's pixels in those of the image.
        """
        floor = -math.inf
        if self.settings.good is not None:
            floor = float(np.fmin(0.0 if self.comparison.gives_logarithms else 1.0, threshold))
        residual = without_small_regions(residual, self.settings.min_area / share, floor)
        for kind in self.settings.harmless:
            residual = kind.lowered(residual)
        return residual

    def split(
        self, images: Iterable[tuple[Tag, Tensor]]
    ) -> Iterator[tuple[tuple[Tag, Tensor | None], Tensor]]:
        """Planes (c, h, w), tagged with what of them counts, (1, h, w) or None, besides."""
        for tag, planes in images:
            image, counts = split_counts(planes, self.n_channels)
            yield (tag, None if counts is None else counts.to(self.device)), image
