"""The SSIM autoencoder, the paper's own contribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Generator, Tensor

from sklearn_ssimae._deciding.calibration import Calibration
from sklearn_ssimae._detectors.base import BaseDetector
from sklearn_ssimae._detectors.docs import published
from sklearn_ssimae._maps.ssim import DEFAULT_C1, DEFAULT_C2, ssim_map
from sklearn_ssimae._maps.windows import Window
from sklearn_ssimae._training.trainer import Forward, Loss

# Constants (c1, c2) of the map from which a fit chooses: those of every library, and the paper's
# literal ones, which suit textures of high contrast. What lies between is nowhere better than both,
# and drawn defects, which are few, would as soon choose it.
_CONSTANTS = [(DEFAULT_C1, DEFAULT_C2), (1e-2, 3e-2)]


@published
@dataclass(kw_only=True, eq=False, repr=False)
class SSIMAutoencoderDetector(BaseDetector):
    """Defect detector: autoencoder with structural similarity as loss and residual.

    Parameters
    ----------
    {common_parameters}
    window_size : int, default=11
        Side K of the SSIM window in pixels; odd, at most `patch_size`.
    window : {"uniform", "gaussian"}, default="uniform"
        Weights of the window.
    sigma : float, default=1.5
        Standard deviation of the Gaussian window in pixels; no effect on the uniform one.
    c1, c2 : "auto" or float, default="auto"
        Constants of SSIM for images in [0, 1], of loss and map. "auto": the loss takes 0.01²
        and 0.03², the map those with which drawn defects are found best on kept images; see
        `smoothing`. The paper prints ``c1=0.01, c2=0.03``.
    alpha, beta, gamma : float, default=1.0
        Exponents of luminance, contrast and structure.

    Attributes
    ----------
    {common_attributes}
    c1_, c2_ : float
        Constants of the map: those given, or those chosen.

    See Also
    --------
    ssim_map : The function that is both loss and residual.
    L2AutoencoderDetector : The same network with squared errors.

    Notes
    -----
    Loss: 1 - SSIM, averaged over the pixels and channels of a patch. Residual: 1 - SSIM
    at each pixel, averaged over channels, in [0, 2].

    References
    ----------
    .. [1] P. Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying
       Structural Similarity to Autoencoders", VISAPP 2019.

    Examples
    --------
    >>> from skimage import data
    >>> from sklearn_ssimae import SSIMAutoencoderDetector
    >>> brick = data.brick()[None]
    >>> detector = SSIMAutoencoderDetector(
    ...     patch_size=32,
    ...     latent_dim=16,
    ...     scale=0.25,
    ...     n_patches=200,
    ...     max_iter=3,
    ...     random_state=0,
    ... )
    >>> detector.fit(brick[:, :256]).transform(brick[:, 256:]).shape
    (1, 256, 512)
    """

    window_size: int = 11
    window: Window = "uniform"
    sigma: float = 1.5
    c1: float | str = "auto"
    c2: float | str = "auto"
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseDetector._parameter_constraints,
        "window_size": [Interval(Integral, 1, None, closed="left")],
        "window": [StrOptions({"uniform", "gaussian"})],
        "sigma": [Interval(Real, 0, None, closed="neither")],
        "c1": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "c2": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="left")],
    }

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.window_size % 2 == 0 or self.window_size > self.patch_size:
            raise ValueError(
                f"window_size must be odd and at most patch_size={self.patch_size}, "
                f"got {self.window_size}."
            )

    def _make_loss(self, n_channels: int, device: torch.device, generator: Generator) -> Loss:
        constants = self._constants({})

        def loss(forward: Forward, patches: Tensor, warmth: float) -> Tensor:
            return self._residual(patches, forward(), **constants).mean()

        return loss

    def _residual(self, images: Tensor, reconstructions: Tensor, **constants: float) -> Tensor:
        ssim = ssim_map(
            images,
            reconstructions,
            window_size=self.window_size,
            window=self.window,
            sigma=self.sigma,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            **constants,
        )
        return (1 - ssim).mean(dim=1)

    @property
    def c1_(self) -> float:
        """The parameter `c1`, or what was chosen for the map."""
        return self._constants(self._learnt.settings.constants)["c1"]

    @property
    def c2_(self) -> float:
        """The parameter `c2`, or what was chosen for the map."""
        return self._constants(self._learnt.settings.constants)["c2"]

    def _constants(self, learnt: Mapping[str, float]) -> dict[str, float]:
        defaults = {"c1": DEFAULT_C1, "c2": DEFAULT_C2, **learnt}
        given = {name: getattr(self, name) for name in defaults}
        return {
            name: defaults[name] if value == "auto" else float(value)
            for name, value in given.items()
        }

    def _constants_to_choose_from(self) -> list[dict[str, float]]:
        if self.aggregate == "residual":
            return [self._constants({})]  # the network would have to run again for each
        candidates = [self._constants({"c1": c1, "c2": c2}) for c1, c2 in _CONSTANTS]
        return [row for i, row in enumerate(candidates) if row not in candidates[:i]]

    def _learns_from_kept(self) -> bool:
        return super()._learns_from_kept() or "auto" in (self.c1, self.c2)

    def _depends_on(self, learnt: Calibration) -> dict[str, Any]:
        names = ("window_size", "window", "sigma", "alpha", "beta", "gamma")
        return {**super()._depends_on(learnt), **{name: getattr(self, name) for name in names}}
