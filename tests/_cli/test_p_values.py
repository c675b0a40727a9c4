"""The column `p` of the table of results."""

import csv
import warnings

import numpy as np
import pytest
import skops.io
from PIL import Image
from shared_cli import CHEAPEST
from skimage import data
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import L2AutoencoderDetector
from sklearn_ssimae._cli import results
from sklearn_ssimae._cli.table import Form

N_GOOD = 9


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """Good images, and three with squares that differ from them more and more."""
    folder = tmp_path_factory.mktemp("line")
    grass = data.grass()
    for index in range(N_GOOD + 3):
        image = grass[256:304, 42 * index : 42 * index + 40].copy()
        if index >= N_GOOD:
            image[10:30, 10:30] //= index - N_GOOD + 2
        Image.fromarray(image).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture
def read(ssimae, tmp_path, line):
    """A function that inspects the images and returns the rows of the table."""

    def inspect(detector, *more):
        file = tmp_path / "detector.skops"
        skops.io.dump(detector, file)
        assert ssimae("inspect", file, line, "-o", tmp_path / "out", *more).status == 0
        text = (tmp_path / "out/results.csv").read_text(encoding="utf-8-sig")
        return list(csv.DictReader(text.splitlines(), delimiter=";" if "--excel" in more else ","))

    return inspect


def images_in(line):
    return sorted(map(str, line.glob("*.png")))


@pytest.mark.parametrize("rate", [0.01, 0.2])
def test_below_the_rate_exactly_where_there_is_a_defect(read, detector, line, rate):
    """Also of good images whose rank is that of the rate: nothing is lost by rounding."""
    learnt = clone(detector).set_params(threshold=None)
    images = images_in(line)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        learnt.fit(images[:3]).fit_threshold(images[:N_GOOD], false_alarm_rate=rate)
    rows = read(learnt)
    p = np.array([float(row["p"]) for row in rows])
    np.testing.assert_array_equal(p, learnt.p_values(images))
    np.testing.assert_array_equal(p < rate, [row["label"] == "defect" for row in rows])
    assert (p[:N_GOOD] < rate).sum() == (rate == 0.2)


def test_in_excel(read, detector, line, monkeypatch):
    monkeypatch.setattr(results, "form_for_excel", lambda: Form("\ufeff", ";", ","))
    p = [float(row["p"].replace(",", ".")) for row in read(detector, "--excel")]
    np.testing.assert_array_equal(p, detector.p_values(images_in(line)))


def test_empty_where_no_good_images_were_kept(read, line):
    detector = L2AutoencoderDetector(**CHEAPEST, contamination=0.1, residual="plain", smoothing=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector.fit(images_in(line)[:3])
    assert {row["p"] for row in read(detector)} == {""}


def test_empty_where_they_were_of_another_map(read, detector):
    assert {row["p"] for row in read(detector, "--min-area", 5)} == {""}
