from ._detectors.fmae import FMAEDetector
from ._detectors.l2 import L2AutoencoderDetector
from ._detectors.ssim import SSIMAutoencoderDetector
from ._detectors.thresholder import ResidualThresholder
from ._detectors.vae import VAEDetector
from ._maps.ssim import ssim_components, ssim_map
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
