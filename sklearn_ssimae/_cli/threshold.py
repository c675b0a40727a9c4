"""``ssimae threshold``."""

from __future__ import annotations

from argparse import Namespace

from sklearn_ssimae._cli.files import check_folder, load_detector, saving, threshold_of
from sklearn_ssimae.datasets import list_images
from sklearn_ssimae.datasets._folders import check_good_folder

FALSE_ALARM_RATE = 0.01


def run(options: Namespace) -> int:
    """Store the detector anew with another threshold."""
    if (options.good is None) == (options.value is None):
        raise ValueError("Give either GOOD_DIR, a folder of good images, or --value T.")
    if options.value is not None and options.false_alarm_rate is not None:
        raise ValueError("--false-alarm-rate needs GOOD_DIR; with --value it means nothing.")
    if options.good:
        check_folder(options.good)
        check_good_folder(options.good)
    detector = load_detector(options.detector)
    before, basis_before = threshold_of(detector), detector.threshold_basis_
    with saving(options.output) as save:
        # One that was set would go before what is learnt.
        detector.set_params(threshold=options.value)
        if options.good:
            rate = options.false_alarm_rate or FALSE_ALARM_RATE
            detector.fit_threshold(list_images(options.good), false_alarm_rate=rate)
        save(detector)
    print(f"{options.output}: threshold {before} -> {threshold_of(detector)}")
    print(f"before: {basis_before}")
    print(f"now: {detector.threshold_basis_}")
    return 0
