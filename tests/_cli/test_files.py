"""Detectors' files: ``export``, ``info``, and what is refused."""

import os
import warnings
import zipfile
from datetime import datetime

import joblib
import numpy as np
import onnx
import onnxruntime
import pytest
import skops.io
from PIL import Image
from shared_cli import CHEAPEST, files_in
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression

import sklearn_ssimae
from sklearn_ssimae import L2AutoencoderDetector, SSIMAutoencoderDetector
from sklearn_ssimae._cli import files
from sklearn_ssimae._cli.info import describe_images


class Foreign(SSIMAutoencoderDetector):
    """A type of somebody else's."""


# Export -------------------------------------------------------------------------------


# A file takes seconds, and the example of `to_onnx` writes one as well.
@pytest.mark.slow
def test_export(ssimae, photos, detector, detector_file, tmp_path):
    file = tmp_path / "detector.onnx"
    outcome = ssimae("export", detector_file, "-o", file, "--image-shape", 48, 56)
    assert outcome.status == 0
    path = str(photos / "test/b/0.png")
    with Image.open(path) as image:
        pixels = np.asarray(image, dtype=np.float32)
    (maps,) = onnxruntime.InferenceSession(file).run(["maps"], {"images": pixels[None]})
    np.testing.assert_allclose(maps[0], detector.transform([path])[0], atol=1e-4)
    metadata = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert float(metadata["threshold"]) == detector.threshold_
    assert files_in(tmp_path) == {"detector.onnx"}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([48], "image_shape must be (h, w) or (h, w, c)"),
        ([48, 0], "image_shape must be (h, w) or (h, w, c)"),
        ([48, 56, 3], "has 3 channels"),
        (["tall", 56], "invalid int value: 'tall'"),
        (["48,56"], "invalid int value: '48,56': write 48 56"),
        (["48x56x3"], "invalid int value: '48x56x3': write 48 56 3"),
    ],
)
def test_bad_shapes(ssimae, detector_file, tmp_path, shape, message):
    outcome = ssimae("export", detector_file, "-o", tmp_path / "d.onnx", "--image-shape", *shape)
    assert outcome.status == 2
    assert message in outcome.error
    assert files_in(tmp_path) == set()


# Info ---------------------------------------------------------------------------------


def read_lines(output):
    pairs = (line.split(":", 1) for line in output.splitlines())
    return {name: value.strip() for name, value in pairs}


def test_info(ssimae, detector, detector_file):
    version = sklearn_ssimae.__version__
    os.utime(detector_file, (0, datetime(2026, 5, 4, 3, 2).timestamp()))
    outcome = ssimae("info", detector_file)
    assert outcome.status == 0
    assert outcome.errors == ""
    assert read_lines(outcome.output) == {
        "detector": "SSIMAutoencoderDetector",
        "set": "latent_dim=8, max_iter=2, n_patches=64, patch_size=32, random_state=0, stride=16, "
        f"threshold={detector.threshold!r}",
        "trained on": "2 good images, 1 kept from training; the first has 48 x 56 pixels",
        "images": "of any size",
        "channels": "1",
        "values": "0 to 255",
        "material": detector.material_,
        "threshold": f"{detector.threshold_:.6g}",
        "rests on": "set by the parameter threshold, not learnt",
        "p-values": "extrapolated with the Gumbel distribution from the largest residuals of 1 "
        "good image",
        "epochs": f"2 of 64 crops, the last with loss {detector.loss_curve_[-1]:.4g}",
        "stored": f"2026-05-04 03:02, by sklearn-ssimae {version} (this is {version})",
    }


def test_info_of_a_threshold_that_rests_on_one_image(ssimae, detector, tmp_path):
    """And of one that was set when the detector was fitted, and taken back."""
    file = tmp_path / "detector.skops"
    learnt = clone(detector).set_params(threshold=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        learnt.fit(np.random.default_rng(0).random((2, 48, 56)))
    skops.io.dump(learnt, file)
    lines = read_lines(ssimae("info", file).output)
    assert lines["threshold"] == f"{learnt.threshold_:.6g}"
    assert lines["rests on"].startswith("exceeded by 0.01 of good images, extrapolated")
    assert "It rests on 1 image alone" in lines["rests on"]
    plain = L2AutoencoderDetector(**CHEAPEST, threshold=1.0, residual="plain", smoothing=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        plain.fit(np.random.default_rng(0).random((2, 48, 56))).set_params(threshold=None)
    skops.io.dump(plain, file)
    lines = read_lines(ssimae("info", file).output)
    assert lines["threshold"] == "none"
    assert lines["rests on"] == "nothing"


def test_arguments_in_the_wrong_order(ssimae, photos, detector_file, tmp_path):
    outcome = ssimae("inspect", photos / "test", detector_file, "-o", tmp_path / "out")
    assert outcome.status == 2
    assert f"{str(photos / 'test')!r} is a folder. The file of a detector" in outcome.error
    assert "it comes before the images" in outcome.error


def test_images_in_words():
    """Of few images a strip each is kept."""
    trained_on = {"n_images": 3, "n_kept": 3, "first_shape": (300, 400, 3)}
    assert describe_images(trained_on) == (
        "3 good images, a strip of each kept from training; the first has 300 x 400 pixels"
    )


def test_info_of_a_file_of_another_version(ssimae, detector, tmp_path, monkeypatch):
    file = tmp_path / "old.joblib"
    state = {**detector.__getstate__(), "_sklearn_ssimae_version": "0.0.7"}
    monkeypatch.setattr(type(detector), "__getstate__", lambda self: state)
    joblib.dump(detector, file)
    outcome = ssimae("info", file)
    version = sklearn_ssimae.__version__
    stored = read_lines(outcome.output)["stored"]
    assert stored.endswith(f", by sklearn-ssimae 0.0.7 (this is {version})")
    (line,) = outcome.errors.splitlines()
    assert line.startswith("ssimae: warning: ") and "runs whatever code it holds" in line


# What is refused ----------------------------------------------------------------------


def test_foreign_types_are_not_loaded(ssimae, detector, tmp_path, monkeypatch):
    """Not even made, and named."""
    file = tmp_path / "foreign.skops"
    foreign = Foreign(**detector.get_params())
    foreign.__dict__.update(detector.__dict__)
    skops.io.dump(foreign, file)
    monkeypatch.setattr(Foreign, "__new__", lambda cls: pytest.fail("it was made"))
    outcome = ssimae("info", file)
    assert outcome.status == 2
    assert f"it holds {Foreign.__module__}.Foreign, and only this package's" in outcome.error


def test_what_our_modules_import_is_not_trusted(ssimae, detector, tmp_path):
    """A name that begins with that of the package may be anybody's function."""
    file = tmp_path / "function.skops"
    foreign = L2AutoencoderDetector(random_state=None)
    foreign.__dict__.update(detector.__dict__)
    foreign.hook = files.load_detector
    skops.io.dump(foreign, file)
    outcome = ssimae("info", file)
    assert outcome.status == 2
    assert "it holds sklearn_ssimae._cli.files.load_detector" in outcome.error


@pytest.mark.parametrize("ending", ["skops", "joblib"])
@pytest.mark.parametrize("length", [0, 100, 20_000])
def test_damaged_files(ssimae, detector, tmp_path, ending, length):
    file = tmp_path / f"detector.{ending}"
    (skops.io if ending == "skops" else joblib).dump(detector, file)
    file.write_bytes(file.read_bytes()[:length])
    outcome = ssimae("info", file)
    assert outcome.status == 2
    assert f"is damaged, or no .{ending} file of a detector" in outcome.error


def test_an_archive_of_something_else(ssimae, tmp_path):
    file = tmp_path / "photos.skops"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "12")
    outcome = ssimae("info", file)
    assert outcome.status == 2
    assert "is damaged, or no .skops file of a detector" in outcome.error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LinearRegression(), "holds no detector, but a LinearRegression"),
        ({"a": 1}, "holds no detector, but a dict"),
        (SSIMAutoencoderDetector(), "is not fitted yet"),
    ],
    ids=["other estimator", "dict", "not fitted"],
)
@pytest.mark.parametrize("ending", ["skops", "joblib"])
def test_other_contents(ssimae, tmp_path, ending, content, message):
    file = tmp_path / f"other.{ending}"
    (skops.io if ending == "skops" else joblib).dump(content, file)
    outcome = ssimae("info", file)
    assert outcome.status == 2
    assert message in outcome.error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.skops", "There is no file"),
        (".", "'.' is a folder. The file of a detector is needed here, .skops or .joblib; it"),
        ("detector.pkl", "must end in .skops, or in .joblib"),
    ],
)
def test_no_such_file(ssimae, tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "detector.pkl").write_bytes(b"12")
    outcome = ssimae("info", name)
    assert outcome.status == 2
    assert message in outcome.error


def test_a_file_that_may_not_be_read(ssimae, detector_file, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", str(detector_file))

    monkeypatch.setattr(skops.io, "get_untrusted_types", refuse)
    outcome = ssimae("info", detector_file)
    assert outcome.status == 2
    assert outcome.error == f"{detector_file}: Permission denied"


@pytest.mark.parametrize("name", files.DETECTORS)
def test_every_detector_is_trusted(name, tmp_path):
    """Whatever a fitted one holds, its file asks for no other type."""
    more = dict(feature_extractor="efficientnet_lite0") if name == "fmae" else {}
    detector = files.DETECTORS[name](**{**CHEAPEST, "n_patches": 8, "max_iter": 1, **more})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector.fit(np.random.default_rng(0).random((2, 40, 40)))
    with files.saving(tmp_path / "detector.skops") as save:
        save(detector)
    assert type(files.load_detector(tmp_path / "detector.skops")) is type(detector)
