"""``ssimae learn``."""

from __future__ import annotations

import os
import shlex
import warnings
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np

from sklearn_ssimae._cli.files import check_folder, load_detector, saving, threshold_of
from sklearn_ssimae._cli.verdicts import (
    DEFECT,
    GOOD,
    Verdict,
    find_files,
    images_by_verdict,
    read_verdicts,
)
from sklearn_ssimae._writing import sha256_of


def run(options: Namespace) -> int:
    """Teach the images that are good by verdict, and store the detector anew."""
    if options.output.exists() and options.output.samefile(options.detector):
        raise ValueError(
            f"-o must name another file than {str(options.detector)!r}, which is how to undo it."
        )
    if options.images:
        check_folder(options.images)
    verdicts = read_verdicts(options.verdicts)
    told = images_by_verdict(verdicts)
    detector = load_detector(options.detector)
    _check_detector(verdicts, options)
    good, defects = (
        find_files(told[word], options.verdicts, options.images) for word in (GOOD, DEFECT)
    )
    alarms = [path for path, called in zip(good, _called(detector, good), strict=True) if called]
    if not alarms:
        raise ValueError(
            f"There is nothing to learn: {len(good)} images are good by verdict in "
            f"{str(options.verdicts)!r}, and the detector calls none of them a defect."
        )
    found = _called(detector, defects)
    with saving(options.output) as save:
        detector.learn_good(alarms)
        save(detector)
    lesson = detector.lessons_[-1]
    n_left = int(_called(detector, alarms).sum())
    print(f"{options.output}: {len(alarms)} false alarms taught, {len(alarms) - n_left} are gone")
    print(
        f"of further ones of the kind, about {lesson['n_alike']} of {lesson['n_alarms']} would be "
        f"gone; the threshold is {threshold_of(detector)} as before"
    )
    _tell_of_defects(defects, found, _called(detector, defects))
    print(f"next: ssimae inspect {shlex.quote(str(options.output))} FOLDER -o OUT --report")
    print(f"to undo: go on with {options.detector}")
    return 0


def _check_detector(verdicts: Sequence[Verdict], options: Namespace) -> None:
    """Warn of verdicts from the report of another detector: they are of images all the same."""
    own = sha256_of(options.detector)
    if any(verdict.detector_sha256 not in ("", own) for verdict in verdicts):
        warnings.warn(
            f"{options.verdicts} comes from a report of another detector than {options.detector}. "
            "Images that this one calls good are not learnt.",
            UserWarning,
            stacklevel=2,
        )


def _called(detector: Any, paths: list[str]) -> np.ndarray:
    """Which images are called defects."""
    return detector.predict(paths) == -1 if paths else np.zeros(0, dtype=bool)


def _tell_of_defects(paths: list[str], before: np.ndarray, after: np.ndarray) -> None:
    if paths:
        print(f"defects by verdict: {before.sum()} of {len(paths)} found before, {after.sum()} now")
    lost = [path for path, was, still in zip(paths, before, after, strict=True) if was > still]
    if lost:
        warnings.warn(
            f"of the defects that were found, {len(lost)} are not found any more: "
            f"{', '.join(map(os.fspath, lost))}. To find them, go on with the old detector, or set "
            "a lower threshold: ssimae threshold --value.",
            UserWarning,
            stacklevel=2,
        )
