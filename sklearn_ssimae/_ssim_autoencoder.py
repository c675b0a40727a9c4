"""The SSIM autoencoder, the paper's own contribution."""

from __future__ import annotations

from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Generator, Tensor

from sklearn_ssimae._base import BaseDetector
from sklearn_ssimae._docs import with_common_docs
from sklearn_ssimae._ssim import DEFAULT_C1, DEFAULT_C2, ssim_map
from sklearn_ssimae._training import Forward, Loss
from sklearn_ssimae._windows import Window


@with_common_docs
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
    c1, c2 : float, default=1e-4 and 9e-4
        Constants of SSIM for images in [0, 1]. The paper prints ``c1=0.01, c2=0.03``.
    alpha, beta, gamma : float, default=1.0
        Exponents of luminance, contrast and structure.

    Attributes
    ----------
    {common_attributes}

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
    ...     n_patches=500,
    ...     max_iter=5,
    ...     random_state=0,
    ... )
    >>> detector.fit(brick[:, :256]).transform(brick[:, 256:]).shape
    (1, 256, 512)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseDetector._parameter_constraints,
        "window_size": [Interval(Integral, 1, None, closed="left")],
        "window": [StrOptions({"uniform", "gaussian"})],
        "sigma": [Interval(Real, 0, None, closed="neither")],
        "c1": [Interval(Real, 0, None, closed="neither")],
        "c2": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        latent_dim: int = 100,
        patch_size: int = 128,
        n_patches: int = 1000,
        max_iter: int = 80,
        augment: bool = False,
        batch_size: int = 8,
        learning_rate_init: float = 1e-3,
        learning_rate: str = "one_cycle",
        weight_decay: float = 1e-5,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        stride: int = 30,
        aggregate: str = "reconstruction",
        scale: float = 1.0,
        opening_diameter: int | None = 4,
        smoothing: float | str = "auto",
        contamination: float | str = "auto",
        threshold: float | None = None,
        image_shape: tuple[int, ...] | None = None,
        data_range: tuple[float, float] | None = None,
        device: str = "auto",
        precision: str = "float32",
        warm_start: bool = False,
        checkpoint: str | PathLike[str] | None = None,
        verbose: int = 0,
        random_state: Any = None,
        window_size: int = 11,
        window: Window = "uniform",
        sigma: float = 1.5,
        c1: float = DEFAULT_C1,
        c2: float = DEFAULT_C2,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
    ) -> None:
        super().__init__(
            latent_dim=latent_dim,
            patch_size=patch_size,
            n_patches=n_patches,
            max_iter=max_iter,
            augment=augment,
            batch_size=batch_size,
            learning_rate_init=learning_rate_init,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            stride=stride,
            aggregate=aggregate,
            scale=scale,
            opening_diameter=opening_diameter,
            smoothing=smoothing,
            contamination=contamination,
            threshold=threshold,
            image_shape=image_shape,
            data_range=data_range,
            device=device,
            precision=precision,
            warm_start=warm_start,
            checkpoint=checkpoint,
            verbose=verbose,
            random_state=random_state,
        )
        self.window_size = window_size
        self.window = window
        self.sigma = sigma
        self.c1 = c1
        self.c2 = c2
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma

    def _check_geometry(self) -> None:
        super()._check_geometry()
        if self.window_size % 2 == 0 or self.window_size > self.patch_size:
            raise ValueError(
                f"window_size must be odd and at most patch_size={self.patch_size}, "
                f"got {self.window_size}."
            )

    def _make_loss(self, n_channels: int, device: torch.device, generator: Generator) -> Loss:
        def loss(forward: Forward, patches: Tensor, warmth: float) -> Tensor:
            return self._residual(patches, forward(patches)).mean()

        return loss

    def _residual(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        ssim = ssim_map(
            images,
            reconstructions,
            window_size=self.window_size,
            window=self.window,
            sigma=self.sigma,
            c1=self.c1,
            c2=self.c2,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
        )
        return (1 - ssim).mean(dim=1)
