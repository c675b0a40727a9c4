"""``ssimae inspect`` says once that what arrives no longer looks as the training images did."""

import re
import warnings

import numpy as np
import pytest
import skops.io
from PIL import Image
from shared_cli import CHEAPEST
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import L2AutoencoderDetector
from sklearn_ssimae._cli import arrivals

SIZE = 48


def photos(folder, n_images, seed, factor=1.0):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for index in range(n_images):
        waves = np.sin(0.8 * np.arange(SIZE) + random.uniform(0, 6))
        image = random.normal(125, 2) * (1 + 0.4 * waves) + random.normal(0, 2, (SIZE, SIZE))
        Image.fromarray(np.uint8((factor * image).clip(0, 255))).save(folder / f"{index:03}.png")
    return folder


@pytest.fixture(scope="module")
def drift_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift")
    good = sorted(map(str, photos(folder / "good", 60, 0).glob("*.png")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        skops.io.dump(L2AutoencoderDetector(**CHEAPEST).fit(good), folder / "detector.skops")
    return folder / "detector.skops"


def drift_lines(outcome):
    return [line for line in outcome.output.splitlines() if line.startswith("drift: ")]


def test_nothing_is_said_of_good_images(ssimae, drift_file, tmp_path):
    outcome = ssimae("inspect", drift_file, photos(tmp_path / "in", 20, 1), "-o", tmp_path / "out")
    assert drift_lines(outcome) == []
    assert outcome.errors == ""


@pytest.mark.parametrize("report", [[], ["--report"]])
def test_a_change_is_said_once(ssimae, drift_file, tmp_path, report):
    images = photos(tmp_path / "in", 30, 1, factor=1.2)
    (images / "015.png").write_bytes(b"no image")
    outcome = ssimae("inspect", drift_file, images, "-o", tmp_path / "out", *report)
    (line,) = drift_lines(outcome)
    assert re.search(r"brightness (19|2\d) % above", line)
    assert line.endswith("since image 1")


def test_a_watched_folder(ssimae, drift_file, tmp_path, monkeypatch):
    """First good images, then darker ones, then good ones again."""
    batches = iter([(30, 1, 1.0), (30, 2, 0.8), (45, 3, 1.0)])

    def next_batch():
        try:
            n_images, seed, factor = next(batches)
        except StopIteration:
            raise KeyboardInterrupt from None
        photos(tmp_path / "in" / str(seed), n_images, seed, factor)

    sleeps = []

    def sleep(seconds):
        # Images are inspected at the second look.
        sleeps.append(seconds)
        if len(sleeps) % 3 == 1:
            next_batch()

    monkeypatch.setattr(arrivals.time, "sleep", sleep)
    (tmp_path / "in").mkdir()
    outcome = ssimae("inspect", drift_file, "--watch", tmp_path / "in", "-o", tmp_path / "out")
    moved, over = drift_lines(outcome)
    assert re.search(r"brightness (19|2\d) % below", moved)
    assert over == "drift: over: images look as the training images did"


def test_a_detector_of_one_image_says_that_drift_is_not_watched_for(ssimae, tmp_path):
    (good,) = photos(tmp_path / "good", 1, 0).glob("*.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = L2AutoencoderDetector(**CHEAPEST).fit([str(good)])
    skops.io.dump(detector, tmp_path / "detector.skops")
    outcome = ssimae("inspect", tmp_path / "detector.skops", good, "-o", tmp_path / "out")
    assert outcome.status == 0
    assert "ssimae: warning: Drift is not watched for." in outcome.errors
