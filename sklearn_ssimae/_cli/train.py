"""``ssimae train``."""

from __future__ import annotations

import ast
import re
import shlex
import time
import warnings
from argparse import Namespace
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from sklearn_ssimae._cli.files import DETECTORS, check_folder, saving
from sklearn_ssimae._images.files import read_size
from sklearn_ssimae._images.region import read_region
from sklearn_ssimae._training.checkpoint import read_identity
from sklearn_ssimae.datasets import list_images
from sklearn_ssimae.datasets._folders import check_good_folder

# Parameters of which 0,255 is a value, without brackets.
_TAKE_SEVERAL = ("data_range", "image_shape")


def run(options: Namespace) -> int:
    """Fit a detector and store it."""
    if options.minutes and options.checkpoint and options.checkpoint.is_dir():
        raise ValueError(
            f"--minutes needs the name of a file as --checkpoint; {str(options.checkpoint)!r} is "
            "a folder."
        )
    detector = make_detector(options)
    check_folder(options.good)
    images = list_images(options.good)
    check_good_folder(options.good)
    if options.ignore_border:
        size = read_size(images[0])
        detector.set_params(region=without_border(size, options.ignore_border, detector.region))
    with saving(options.output) as save:
        if options.minutes:
            if options.checkpoint and options.checkpoint.exists():
                n_epochs = epochs_of_checkpoint(options.checkpoint)
            else:
                n_epochs = epochs_within(60 * options.minutes, detector, images)
            # Trained to the end of the learning rate's course.
            detector.set_params(max_iter=n_epochs, n_iter_no_change=n_epochs)
        detector.fit(images)
        save(detector)
    print(
        f"{options.output}: {detector.n_iter_} epochs of {len(images)} good images, "
        f"threshold {detector.threshold_:.6g}"
    )
    if not detector.verbose:  # else fit has said it
        print(f"the threshold: {detector.threshold_basis_}")
    print(f"next: ssimae inspect {shlex.quote(str(options.output))} FOLDER -o OUT --report")
    return 0


def make_detector(options: Namespace) -> Any:
    """The detector that the options describe, not yet fitted."""
    cls = DETECTORS[options.detector]
    given = parse_parameters(options.set, list(cls().get_params()))
    if options.minutes and "max_iter" in given:
        raise ValueError("--minutes chooses max_iter; give one of the two.")
    for name in ("region", "min_area"):
        value = getattr(options, name)
        if value is not None and name in given:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} and --set {name}=...: give one of the two.")
        if value is not None:
            given[name] = value
    if options.checkpoint:
        given["checkpoint"] = str(options.checkpoint)
    return cls(**{"verbose": 1, **given})


def without_border(size: tuple[int, int], border: Sequence[int], region: Any) -> np.ndarray:
    """The region (h, w) of images of that size without pixels at the border.

    Parameters
    ----------
    size : (int, int)
        Height and width of the images.
    border : sequence of 1 or 4 int
        Pixels at all sides, or at the top, the right, the bottom and the left.
    region : None, array-like of shape (h, w) or path
        What counts besides, as the parameter `region` of a detector.
    """
    if len(border) not in (1, 4):
        raise ValueError(
            "--ignore-border takes one number, or four (TOP RIGHT BOTTOM LEFT), got "
            f"{len(border)}: {' '.join(map(str, border))}."
        )
    top, right, bottom, left = [*border, *border, *border, *border][:4]
    height, width = size
    inside = np.zeros(size, dtype=bool)
    inside[top : max(height - bottom, 0), left : max(width - right, 0)] = True
    given = read_region(region)
    if given is not None and given.shape != size:
        raise ValueError(
            f"The region has {given.shape[0]} x {given.shape[1]} pixels, and the first image "
            f"{height} x {width}. Give a region of the images' size."
        )
    inside &= True if given is None else given
    if not inside.any():
        raise ValueError(
            f"--ignore-border {' '.join(map(str, border))} leaves nothing of the {height} x "
            f"{width} pixels of the images{'' if given is None else ' and of the region'}."
        )
    return inside


def parse_parameters(assignments: Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    """{'scale': 0.5, 'window': 'gaussian'} of ["scale=0.5", "window=gaussian"]."""
    parameters = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set takes NAME=VALUE, got {assignment!r}.")
        if name not in known:
            close = ", ".join(get_close_matches(name, known)) or ", ".join(known)
            raise ValueError(f"--set: there is no parameter {name!r}. Is it one of {close}?")
        if re.fullmatch(r"[+-]?\d+,\d+", value) and name not in _TAKE_SEVERAL:
            raise ValueError(f"--set {assignment}: write {name}={value.replace(',', '.')}.")
        try:
            parameters[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parameters[name] = value
    return parameters


def epochs_of_checkpoint(path: Path) -> int:
    """How many epochs the training has that a checkpoint belongs to: measured when it began."""
    max_iter = read_identity(path)["max_iter"]
    if not max_iter.isdecimal():
        raise ValueError(
            f"The checkpoint {path} belongs to a training without --minutes. Leave --minutes out "
            "to continue it, or delete the file to begin anew."
        )
    return int(max_iter)


def epochs_within(seconds: float, detector: Any, images: Sequence[str]) -> int:
    """How many epochs fit into the time, with all else that a fit does and this trial."""
    started = time.perf_counter()
    stopwatch = _Stopwatch()
    trial = clone(detector).set_params(max_iter=2, checkpoint=None, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit to come says it again, if it still holds
        trial.set_callbacks(stopwatch).fit(images)
    if len(stopwatch.seconds) < 2:
        raise KeyboardInterrupt  # which fit takes for the end of the training
    elapsed = time.perf_counter() - started
    besides_epochs = elapsed - sum(stopwatch.seconds)
    # The first one also reads the images.
    per_epoch = stopwatch.seconds[-1]
    n_epochs = max(1, int((seconds - elapsed - besides_epochs) / per_epoch))
    print(f"{n_epochs} epochs of {per_epoch:.2g} s", flush=True)
    return n_epochs


class _Stopwatch:
    """A callback of scikit-learn's that keeps how long each epoch took."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def setup(self, estimator: Any, context: Any) -> None:
        pass

    def teardown(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        self._started = time.perf_counter()

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        if context.task_name != "fit":
            self.seconds.append(time.perf_counter() - self._started)
