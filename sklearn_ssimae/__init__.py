"""Defect detection on textured surfaces with autoencoders, the scikit-learn way."""

from sklearn_ssimae._fmae import FMAEDetector
from sklearn_ssimae._l2_autoencoder import L2AutoencoderDetector
from sklearn_ssimae._ssim import ssim_components, ssim_map
from sklearn_ssimae._ssim_autoencoder import SSIMAutoencoderDetector
from sklearn_ssimae._thresholder import ResidualThresholder
from sklearn_ssimae._vae import VAEDetector
from sklearn_ssimae._version import __version__

__all__ = [
    "FMAEDetector",
    "L2AutoencoderDetector",
    "ResidualThresholder",
    "SSIMAutoencoderDetector",
    "VAEDetector",
    "__version__",
    "ssim_components",
    "ssim_map",
]
