"""What a detector of your own is built on: its base class, and the types of its loss.

:class:`BaseDetector` owns the parameters, training, scoring, thresholds and storage. A detector
adds `_make_loss` and `_residual`; CONTRIBUTING.md has one in full.
"""

from sklearn_ssimae._detectors.base import BaseDetector
from sklearn_ssimae._training.trainer import Forward, Loss

__all__ = ["BaseDetector", "Forward", "Loss"]
