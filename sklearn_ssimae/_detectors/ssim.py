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
from sklearn_ssimae._detectors.deciding import ConstantsToChooseFrom
from sklearn_ssimae._detectors.docs import published
from sklearn_ssimae._maps.filters import gaussian_smoothing
from sklearn_ssimae._maps.ssim import DEFAULT_C1, DEFAULT_C2, ssim_map
from sklearn_ssimae._maps.windows import Window
from sklearn_ssimae._training.trainer import Forward, Loss

# Constants of the map from which a fit chooses: those of every library, and the paper's literal
# ones, which suit textures of high contrast. What lies between is nowhere better than both, and
# drawn defects, which are few, would as soon choose it. The third is luminance alone.
_SMALL = {"c1": DEFAULT_C1, "c2": DEFAULT_C2}
_LARGE = {"c1": 1e-2, "c2": 3e-2}
_USUAL: list[dict[str, float]] = [_SMALL, _LARGE, {**_SMALL, "beta": 0.0, "gamma": 0.0}]
# For grain that nobody can predict: a window that sees thin defects, and a blur, of patches of
# 128 pixels, that takes the grain out.
_FINE: list[dict[str, float]] = [{**_LARGE, "map_window_size": 5}]
_COARSE: list[dict[str, float]] = [{**_SMALL, "map_blur": 4.0}]
_PATCH_SIZE = 128


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
    alpha, beta, gamma : float or "auto", default=1.0
        Exponents of luminance, contrast and structure, of loss and map. "auto": the loss takes 1,
        the map all three or luminance alone, chosen as `c1`.
    map_window_size : int or "auto", default="auto"
        Side of the map's window in pixels; odd. "auto": `window_size`, or 5 where that is
        better for grain of which the network redraws less than 0.8 of the local contrast.
    map_blur : float or "auto", default="auto"
        How far an image and its reconstruction are blurred before the map compares them, so that
        finer grain does not count: σ of a Gaussian in pixels, 0 for none. "auto": 0, or a 32nd of
        `patch_size` where that is better for such grain.

    Attributes
    ----------
    {common_attributes}
    c1_, c2_, alpha_, beta_, gamma_, map_window_size_, map_blur_ : float
        Of the map: those given, or those chosen.

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
    alpha: float | str = 1.0
    beta: float | str = 1.0
    gamma: float | str = 1.0
    map_window_size: int | str = "auto"
    map_blur: float | str = "auto"

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseDetector._parameter_constraints,
        "window_size": [Interval(Integral, 1, None, closed="left")],
        "window": [StrOptions({"uniform", "gaussian"})],
        "sigma": [Interval(Real, 0, None, closed="neither")],
        **{
            name: [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")]
            for name in ("c1", "c2")
        },
        **{
            name: [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")]
            for name in ("alpha", "beta", "gamma", "map_blur")
        },
        "map_window_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    }

    def _check_parameters(self) -> None:
        super()._check_parameters()
        for name in ("window_size", "map_window_size"):
            size: Any = getattr(self, name)
            if size != "auto" and (size % 2 == 0 or size > self.patch_size):
                raise ValueError(
                    f"{name} must be odd and at most patch_size={self.patch_size}, got {size}."
                )

    def _make_loss(self, n_channels: int, device: torch.device, generator: Generator) -> Loss:
        constants = self._training_constants()

        def loss(forward: Forward, patches: Tensor, warmth: float) -> Tensor:
            return self._residual(patches, forward(), **constants).mean()

        return loss

    def _residual(self, images: Tensor, reconstructions: Tensor, **constants: float) -> Tensor:
        window_size, blur = constants.pop("map_window_size"), constants.pop("map_blur")
        ssim = ssim_map(
            gaussian_smoothing(images, blur),
            gaussian_smoothing(reconstructions, blur),
            window_size=int(window_size),
            window=self.window,
            sigma=self.sigma,
            **constants,
        )
        return (1 - ssim).mean(dim=1)

    @property
    def c1_(self) -> float:
        """The parameter `c1`, or what was chosen for the map."""
        return self._of_map("c1")

    @property
    def c2_(self) -> float:
        """The parameter `c2`, or what was chosen for the map."""
        return self._of_map("c2")

    @property
    def alpha_(self) -> float:
        """The parameter `alpha`, or what was chosen for the map."""
        return self._of_map("alpha")

    @property
    def beta_(self) -> float:
        """The parameter `beta`, or what was chosen for the map."""
        return self._of_map("beta")

    @property
    def gamma_(self) -> float:
        """The parameter `gamma`, or what was chosen for the map."""
        return self._of_map("gamma")

    @property
    def map_window_size_(self) -> int:
        """The parameter `map_window_size`, or what was chosen for the map."""
        return int(self._of_map("map_window_size"))

    @property
    def map_blur_(self) -> float:
        """The parameter `map_blur`, or what was chosen for the map."""
        return self._of_map("map_blur")

    def _of_map(self, name: str) -> float:
        return self._constants(self._learnt.settings.constants)[name]

    def _constants(self, learnt: Mapping[str, float]) -> dict[str, float]:
        plain = {
            **_SMALL,
            **dict.fromkeys(("alpha", "beta", "gamma"), 1.0),
            "map_window_size": self.window_size,
            "map_blur": 0.0,
        }
        return {
            name: float(learnt.get(name, value) if given == "auto" else given)
            for name, value in plain.items()
            for given in [getattr(self, name)]
        }

    def _training_constants(self) -> dict[str, float]:
        return self._constants({}) | {"map_window_size": self.window_size, "map_blur": 0.0}

    def _constants_to_choose_from(self) -> ConstantsToChooseFrom:
        if self.aggregate == "residual":  # the network would have to run again for each
            return super()._constants_to_choose_from()
        scale = self.network_.config["patch_size"] / _PATCH_SIZE
        coarse = [{**row, "map_blur": row["map_blur"] * scale} for row in _COARSE]
        known: list[dict[str, float]] = []
        return ConstantsToChooseFrom(*(self._new(rows, known) for rows in (_USUAL, _FINE, coarse)))

    def _new(
        self, rows: list[dict[str, float]], known: list[dict[str, float]]
    ) -> list[dict[str, float]]:
        """The constants in force with each of the rows, without those that are known already."""
        new = []
        for constants in map(self._constants, rows):
            if constants not in known:
                known.append(constants)
                new.append(constants)
        return new

    def _learns_from_kept(self) -> bool:
        given = (getattr(self, name) for name in self._constants({}))
        return super()._learns_from_kept() or "auto" in given

    def _depends_on(self, learnt: Calibration) -> dict[str, Any]:
        names = ("window", "sigma")
        return {**super()._depends_on(learnt), **{name: getattr(self, name) for name in names}}
