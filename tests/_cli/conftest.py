"""Commands run in this process, on images in folders and a detector in a file."""

import warnings

import numpy as np
import pytest
import skops.io
from PIL import Image
from shared_cli import CHEAPEST, Outcome
from skimage import data
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae._cli.main import main


@pytest.fixture
def ssimae(capsys):
    """A function that runs the command line."""

    def run(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Folders ``good`` and ``test``, with sub-folders and several formats."""
    folder = tmp_path_factory.mktemp("photos")
    grass = data.grass()
    defective = [grass[200:248, 60 * i : 60 * i + 56].copy() for i in range(2)]
    for image in defective:
        image[12:36, 16:40] = 0
    for name, image in {
        "good/0.png": grass[:48, :56],
        "good/1.png": grass[48:96, :56],
        "good/more/2.bmp": grass[96:144, :56],
        "test/a/0.png": grass[144:192, :56],
        "test/a/0.bmp": defective[0],
        "test/b/0.png": defective[1],
        "test/1.tif": grass[144:184, 60:120],
    }.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return folder


@pytest.fixture(scope="session")
def detector(photos):
    """A detector that finds defects in half of the images in ``test``."""
    good = sorted(map(str, photos.glob("good/*.png")))
    test = sorted(map(str, photos.glob("test/**/*.*")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = SSIMAutoencoderDetector(**CHEAPEST).fit(good).score_samples(test)
        threshold = float(-np.median(scores))
        return SSIMAutoencoderDetector(threshold=threshold, **CHEAPEST).fit(good)


@pytest.fixture(scope="session")
def detector_file(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("detector") / "detector.skops"
    skops.io.dump(detector, path)
    return path
