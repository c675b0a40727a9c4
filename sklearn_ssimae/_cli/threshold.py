"""``ssimae threshold``."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from sklearn_ssimae._cli.files import load_detector, saving
from sklearn_ssimae.datasets import list_images

FALSE_ALARM_RATE = 0.01


def run(options: Namespace) -> int:
    """Store the detector anew with another threshold."""
    if (options.good is None) == (options.value is None):
        raise ValueError("Give either GOOD_DIR, a folder of good images, or --value T.")
    if options.value is not None and options.false_alarm_rate is not None:
        raise ValueError("--false-alarm-rate needs GOOD_DIR; with --value it means nothing.")
    detector = load_detector(options.detector)
    before = detector.threshold_
    with saving(options.output) as save:
        if options.value is not None:
            detector.set_params(threshold=options.value)
        else:
            rate = options.false_alarm_rate or FALSE_ALARM_RATE
            set_threshold(detector, list_images(options.good), rate)
        save(detector)
    print(f"{options.output}: threshold {detector.threshold_:.6g}, was {before:.6g}")
    return 0


def set_threshold(detector: Any, images: list[str], false_alarm_rate: float) -> None:
    """The threshold that a good image exceeds with this probability."""
    detector.recalibrate(images, false_alarm_rate=false_alarm_rate)
