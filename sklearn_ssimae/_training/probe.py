"""Whether a network has begun to learn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: A share of the mean image's error below this: the network has begun to learn.
LEARNING = 0.95


class Probe:
    """Tells whether a network does better than the mean image.

    A network that ignores its input can still lower its loss by drawing the mean of
    all patches. It stays there for thousands of steps before it begins to learn, or for ever.

    Parameters
    ----------
    patches : Tensor (n, c, p, p)
        Crops of the training images, on the network's device.
    reconstruct : callable
        The network: patches to reconstructions.
    error : callable
        (patches, reconstructions) to residual maps.
    """

    def __init__(
        self,
        patches: Tensor,
        reconstruct: Callable[[Tensor], Tensor],
        error: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self.patches = patches
        self.reconstruct = reconstruct
        self.error = error
        mean_image = patches.mean(dim=0, keepdim=True)
        mean_colour = mean_image.mean(dim=(2, 3), keepdim=True)
        self._baseline = min(
            float(error(patches, constant.expand_as(patches)).mean())
            for constant in (mean_image, mean_colour)
        )

    @torch.no_grad()
    def remaining(self) -> float:
        """Error as a share of the mean image's or the mean colour's; not finite if broken."""
        error = float(self.error(self.patches, self.reconstruct(self.patches)).mean())
        if self._baseline < 1e-8:  # flat images: the mean is all there is
            return 0.0 * error
        return error / self._baseline
