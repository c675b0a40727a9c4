"""Pictures of what detectors see: residual maps, SSIM's factors, curves, thresholds, a report.

`find_defects` lists defects with their sizes, `detectability` says which sizes are found.
`DriftMonitor` says when what arrives no longer looks as the training images did.
`write_report` writes an HTML file in which the threshold can be moved. The classes follow
scikit-learn's displays: a class method computes and draws, the object keeps what was computed, and
`plot` draws it again. They need matplotlib, which the extra ``plot`` installs.

Colour scales are cividis, whose lightness rises evenly and which looks much the same to
colour-blind eyes; yellow is anomalous in all of them. Outlines differ by their dashes as well
as by their colours.
"""

from sklearn_ssimae.inspection._defects import find_defects
from sklearn_ssimae.inspection._detectability import detectability
from sklearn_ssimae.inspection._detectability_display import DetectabilityDisplay
from sklearn_ssimae.inspection._drift import DriftMonitor
from sklearn_ssimae.inspection._pixel_curve import PixelCurveDisplay
from sklearn_ssimae.inspection._report import write_report
from sklearn_ssimae.inspection._residual_map import ResidualMapDisplay
from sklearn_ssimae.inspection._ssim_components import SSIMComponentsDisplay
from sklearn_ssimae.inspection._threshold import ThresholdDisplay

__all__ = [
    "DetectabilityDisplay",
    "DriftMonitor",
    "PixelCurveDisplay",
    "ResidualMapDisplay",
    "SSIMComponentsDisplay",
    "ThresholdDisplay",
    "detectability",
    "find_defects",
    "write_report",
]
