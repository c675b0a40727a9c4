from ._fmae import FMAEDetector
from ._l2_autoencoder import L2AutoencoderDetector
from ._ssim import ssim_components, ssim_map
from ._ssim_autoencoder import SSIMAutoencoderDetector
from ._thresholder import ResidualThresholder
from ._vae import VAEDetector
from ._version import __version__

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
