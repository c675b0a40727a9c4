"""``ssimae train``."""

import io
import sys
import warnings
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from PIL import Image
from shared_cli import CHEAPEST, files_in, load, whole_category
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import (
    FMAEDetector,
    L2AutoencoderDetector,
    SSIMAutoencoderDetector,
    VAEDetector,
)
from sklearn_ssimae._cli import train
from sklearn_ssimae.datasets import list_images

CHEAP = ["--set", *(f"{name}={value}" for name, value in CHEAPEST.items())]


def fit(detector, good):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return detector.fit(good)


def test_the_file_holds_what_fit_makes(ssimae, photos, tmp_path):
    file = tmp_path / "detector.skops"
    outcome = ssimae("train", photos / "good", "-o", file, *CHEAP)
    assert outcome.status == 0
    good = list_images(photos / "good")
    expected = fit(SSIMAutoencoderDetector(**CHEAPEST), good)
    detector = load(file)
    assert detector.get_params() == {**expected.get_params(), "verbose": 1}
    np.testing.assert_array_equal(detector.score_samples(good), expected.score_samples(good))
    assert files_in(tmp_path) == {"detector.skops"}
    *progress, summary, _ = outcome.output.splitlines()
    assert [line.endswith(" s left") for line in progress if "epoch" in line] == [True, True]
    assert f"2 epochs of 3 good images, threshold {detector.threshold_:.6g}" in summary


def test_what_comes_next_and_what_the_threshold_rests_on(ssimae, photos, tmp_path):
    """Told by the last lines: fit says the latter itself unless it is to be silent."""
    file = tmp_path / "a detector.skops"
    following = f"next: ssimae inspect '{file}' FOLDER -o OUT --report"
    outcome = ssimae("train", photos / "good", "-o", file, *CHEAP)
    *_, doubt, _, last = outcome.output.splitlines()
    assert last == following
    assert "It rests on 1 image alone" in doubt
    outcome = ssimae("train", photos / "good", "-o", file, *CHEAP, "verbose=0")
    summary, basis, last = outcome.output.splitlines()
    assert summary.startswith(f"{file}: 2 epochs of 3 good images")
    assert basis == f"the threshold: {load(file).threshold_basis_}"
    assert "It rests on 1 image alone" in basis
    assert last == following


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--minutes", "1,5"], "'1,5' is not a finite number: write 1.5"),
        (["--set", "scale=0,5"], "--set scale=0,5: write scale=0.5"),
    ],
)
def test_decimals_have_a_point(ssimae, photos, tmp_path, more, message):
    outcome = ssimae("train", photos / "good", "-o", tmp_path / "d.skops", *more)
    assert outcome.status == 2
    assert message in outcome.error


def test_ranges_need_no_brackets():
    assert train.parse_parameters(["data_range=0,255"], ["data_range"]) == {"data_range": (0, 255)}


def test_a_file_where_a_folder_is_needed(ssimae, photos, tmp_path):
    outcome = ssimae("train", photos / "good/0.png", "-o", tmp_path / "d.skops", *CHEAP)
    assert outcome.status == 2
    assert "0.png' is a file. A folder is needed here" in outcome.error


def test_warnings_are_lines(ssimae, photos, tmp_path):
    outcome = ssimae("train", photos / "good", "-o", tmp_path / "d.skops", *CHEAP)
    (line,) = outcome.errors.splitlines()
    assert line.startswith("ssimae: warning: After 2 epochs the reconstructions are no better")


@pytest.mark.parametrize(
    ("name", "cls", "more"),
    [
        ("ssim", SSIMAutoencoderDetector, ["window_size=7"]),
        ("l2", L2AutoencoderDetector, []),
        ("vae", VAEDetector, ["n_latent_samples=2"]),
        ("fmae", FMAEDetector, ["feature_extractor=efficientnet_lite0", "n_patches=8"]),
    ],
)
def test_every_detector(ssimae, photos, tmp_path, name, cls, more):
    file = tmp_path / "detector.skops"
    outcome = ssimae("train", photos / "good", "-o", file, "--detector", name, *CHEAP, *more)
    assert outcome.status == 0
    assert type(load(file)) is cls


def test_joblib_by_its_ending_with_a_word_of_warning(ssimae, photos, tmp_path):
    file = tmp_path / "detector.joblib"
    outcome = ssimae("train", photos / "good", "-o", file, *CHEAP)
    assert outcome.status == 0
    assert isinstance(joblib.load(file), SSIMAutoencoderDetector)
    assert "runs whatever code it holds" in outcome.errors.splitlines()[0]


def test_values_are_those_of_python():
    known = ["scale", "window", "threshold", "augment", "image_shape"]
    given = ["scale=0.5", "window=gaussian", "threshold=None", "augment=True", "image_shape=(2, 3)"]
    assert train.parse_parameters(given, known) == {
        "scale": 0.5,
        "window": "gaussian",
        "threshold": None,
        "augment": True,
        "image_shape": (2, 3),
    }


@pytest.fixture
def ctrl_c(monkeypatch):
    """A function that lets the line of an epoch be interrupted."""

    class Stdout(io.StringIO):
        def write(self, text):
            if "epoch 2/" in text:
                raise KeyboardInterrupt
            return super().write(text)

    return lambda: monkeypatch.setattr(sys, "stdout", Stdout())


def test_ctrl_c_keeps_what_was_learnt(ssimae, photos, tmp_path, ctrl_c):
    file = tmp_path / "detector.skops"
    ctrl_c()
    outcome = ssimae("train", photos / "good", "-o", file, *CHEAP)
    assert outcome.status == 0
    assert "Training was interrupted" in outcome.errors
    assert 1 <= load(file).n_iter_ <= 2


def test_a_checkpoint_is_gone_on_with(ssimae, photos, tmp_path, ctrl_c, monkeypatch):
    file, checkpoint = tmp_path / "detector.skops", tmp_path / "grass.checkpoint"
    arguments = ("train", photos / "good", "-o", file, *CHEAP, "--checkpoint", checkpoint)
    ctrl_c()
    assert ssimae(*arguments).status == 0
    assert checkpoint.is_file()
    monkeypatch.undo()
    outcome = ssimae(*arguments)
    assert outcome.status == 0
    assert f"goes on after epoch 1/2 from the checkpoint {checkpoint}" in outcome.output
    # It has served its purpose.
    assert not checkpoint.exists()


# Minutes ------------------------------------------------------------------------------


def test_minutes_choose_the_number_of_epochs(ssimae, photos, tmp_path):
    file = tmp_path / "detector.skops"
    cheap = [word for word in CHEAP if not word.startswith("max_iter")]
    outcome = ssimae("train", photos / "good", "-o", file, *cheap, "--minutes", "1e-4")
    assert outcome.status == 0
    assert outcome.output.startswith("1 epochs of ")
    assert load(file).n_iter_ == 1


def test_epochs_that_fill_the_time(photos, monkeypatch):
    """The second of the two is measured, and what passes besides the epochs passes again."""
    now = [0.0]

    class Slow(train._Stopwatch):
        def on_fit_task_end(self, estimator, context):
            if context.task_name == "fit":
                now[0] += 7
            else:
                self.seconds.append(50 if not self.seconds else 25)
                now[0] += self.seconds[-1]

    monkeypatch.setattr(train, "_Stopwatch", Slow)
    monkeypatch.setattr(train, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    detector = L2AutoencoderDetector(**{**CHEAPEST, "n_patches": 8, "max_iter": 100})
    images = list_images(photos / "good")
    assert train.epochs_within(50 + 25 + 7 + 10 * 25 + 7, detector, images) == 10
    assert train.epochs_within(50 + 25 + 7 + 10 * 25 + 6, detector, images) == 9
    assert train.epochs_within(1, detector, images) == 1


def test_ctrl_c_while_the_speed_is_measured_ends_it_all(ssimae, photos, tmp_path, monkeypatch):
    def interrupt(self, estimator, context):
        raise KeyboardInterrupt

    monkeypatch.setattr(train._Stopwatch, "on_fit_task_end", interrupt)
    cheap = [word for word in CHEAP if not word.startswith("max_iter")]
    outcome = ssimae("train", photos / "good", "-o", tmp_path / "d.skops", *cheap, "--minutes", "9")
    assert outcome.status == 130
    assert outcome.errors == "ssimae: interrupted\n"
    assert files_in(tmp_path) == set()


def test_minutes_are_measured_once(ssimae, photos, tmp_path, ctrl_c, monkeypatch):
    """A training that is gone on with has as many epochs as it had at first."""
    file, checkpoint = tmp_path / "detector.skops", tmp_path / "grass.checkpoint"
    cheap = [word for word in CHEAP if not word.startswith("max_iter")]
    arguments = ("train", photos / "good", "-o", file, *cheap, "--checkpoint", checkpoint)
    monkeypatch.setattr(train, "epochs_within", lambda *_: 3)
    ctrl_c()
    assert ssimae(*arguments, "--minutes", 1).status == 0
    monkeypatch.undo()
    monkeypatch.setattr(train, "epochs_within", pytest.fail)
    outcome = ssimae(*arguments, "--minutes", 1)
    assert outcome.status == 0
    assert "goes on after epoch 1/3 from the checkpoint" in outcome.output
    assert load(file).n_iter_ == 3
    assert files_in(tmp_path) == {"detector.skops"}


def test_minutes_for_a_training_that_began_without(ssimae, photos, tmp_path, ctrl_c):
    checkpoint = tmp_path / "grass.checkpoint"
    cheap = [word for word in CHEAP if not word.startswith("max_iter")]
    arguments = ("train", photos / "good", "-o", tmp_path / "d.skops", *cheap)
    arguments += ("--checkpoint", checkpoint)
    ctrl_c()
    assert ssimae(*arguments).status == 0
    before = checkpoint.read_bytes()
    outcome = ssimae(*arguments, "--minutes", 1)
    assert outcome.status == 2
    assert f"{checkpoint} belongs to a training without --minutes" in outcome.errors
    assert checkpoint.read_bytes() == before


def test_the_trial_leaves_no_checkpoint(ssimae, photos, tmp_path):
    cheap = [word for word in CHEAP if not word.startswith("max_iter")]
    more = ("--minutes", "1e-4", "--checkpoint", tmp_path / "grass.checkpoint")
    outcome = ssimae("train", photos / "good", "-o", tmp_path / "d.skops", *cheap, *more)
    assert outcome.status == 0
    assert outcome.output.startswith("1 epochs of ")
    assert files_in(tmp_path) == {"d.skops"}


def test_minutes_and_a_damaged_checkpoint(ssimae, photos, tmp_path):
    checkpoint = tmp_path / "grass.checkpoint"
    checkpoint.write_bytes(b"12")
    more = ("--minutes", "1", "--checkpoint", checkpoint)
    outcome = ssimae("train", photos / "good", "-o", tmp_path / "d.skops", *more)
    assert outcome.status == 2
    assert "is no checkpoint of a detector" in outcome.error
    assert files_in(tmp_path) == {"grass.checkpoint"}


# Errors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "scal=1"], "no parameter 'scal'. Is it one of scale?"),
        (["--set", "qqq=1"], "no parameter 'qqq'. Is it one of aggregate, "),
        (["--set", "scale"], "--set takes NAME=VALUE, got 'scale'"),
        (["--set", "scale=half"], "'scale' parameter of SSIMAutoencoderDetector must be a float"),
        (["--minutes", "long"], "'long' is not a finite number"),
        (["--minutes", "nan"], "'nan' is not a finite number"),
        (["--minutes", "0"], "'0' is not above 0"),
        (["--minutes", "1", "--set", "max_iter=3"], "--minutes chooses max_iter"),
        (["--minutes", "1", "--checkpoint", "."], "--minutes needs the name of a file"),
        (["--detector", "gan"], "invalid choice: 'gan'"),
        (["--region", "nowhere.png"], "nowhere.png"),
        (["--region", "a.png", "--set", "region=b.png"], "--region and --set region=...: give one"),
        (["--min-area", "3", "--set", "min_area=3"], "--min-area and --set min_area=...: give one"),
        (["--min-area", "-3"], "'-3' is below 0"),
        (["--ignore-border", "1", "2"], "takes one number, or four (TOP RIGHT BOTTOM LEFT), got 2"),
        (["--ignore-border", "-1"], "'-1' is below 0"),
        (["--ignore-border", "0.5"], "'0.5' is no whole number"),
        (["--ignore-border", "24"], "24 leaves nothing of the 48 x 56 pixels of the images."),
        (["--ignore-border", "0", "60", "0", "0"], "0 60 0 0 leaves nothing of the 48 x 56 pixels"),
    ],
)
def test_bad_options(ssimae, photos, tmp_path, more, message):
    outcome = ssimae("train", photos / "good", "-o", tmp_path / "d.skops", *more)
    assert outcome.status == 2
    assert message in outcome.error
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("detector.pkl", "must end in .skops, or in .joblib"),
        ("nowhere/detector.skops", "There is no folder"),
        ("folder.skops", "is a folder; name a file"),
    ],
)
def test_bad_output(ssimae, photos, tmp_path, output, message):
    """Before the training, not after it."""
    (tmp_path / "folder.skops").mkdir()
    outcome = ssimae("train", photos / "good", "-o", tmp_path / output, *CHEAP)
    assert outcome.status == 2
    assert message in outcome.error
    assert outcome.output == ""
    assert files_in(tmp_path) == set()


def test_folder_that_cannot_be_written(ssimae, photos, tmp_path, monkeypatch):
    def refuse(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    outcome = ssimae("train", photos / "good", "-o", tmp_path / "d.skops", *CHEAP)
    assert outcome.status == 2
    assert outcome.error.endswith("d.skops: cannot be written (Permission denied)")
    assert outcome.output == ""


def test_a_whole_category(ssimae, photos, tmp_path):
    category, file = whole_category(photos, tmp_path), tmp_path / "d.skops"
    outcome = ssimae("train", category, "-o", file, *CHEAP)
    assert outcome.status == 2
    assert outcome.error.endswith(f"probably {str(category / 'train/good')!r}.")
    assert not file.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no folder"),
        ({}, "holds no images"),
        ({"notes.txt": b"12"}, "holds no images"),
        ({"0.png": b"no image"}, "0.png is not a readable image"),
    ],
    ids=["missing", "empty", "no images", "damaged"],
)
def test_bad_folder(ssimae, tmp_path, content, message):
    good, file = tmp_path / "good", tmp_path / "d.skops"
    if content is not None:
        good.mkdir()
        for name, text in content.items():
            (good / name).write_bytes(text)
    file.write_bytes(b"an earlier detector")
    outcome = ssimae("train", good, "-o", file, *CHEAP)
    assert outcome.status == 2
    assert message in outcome.error
    # What was there is there still, and nothing beside it.
    assert file.read_bytes() == b"an earlier detector"
    assert not (tmp_path / "d.skops.tmp").exists()


def test_images_of_several_numbers_of_channels(ssimae, tmp_path):
    Image.new("L", (40, 40), 9).save(tmp_path / "0.png")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "1.png")
    outcome = ssimae("train", tmp_path, "-o", tmp_path / "d.skops", *CHEAP)
    assert outcome.status == 2
    assert "1.png has 3 channels" in outcome.error
    assert not (tmp_path / "d.skops").exists()


def test_skops_is_missing(ssimae, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops.io", None)
    outcome = ssimae("train", photos / "good", "-o", tmp_path / "d.skops", *CHEAP)
    assert outcome.status == 2
    assert "Run pip install skops, or, " in outcome.error
    assert 'pip install -e ".[skops]"' in outcome.error
    assert outcome.output == ""


# Regions ------------------------------------------------------------------------------


@pytest.fixture
def region_file(tmp_path):
    """White but for 6 columns at the left."""
    mask = np.full((48, 56), 255, np.uint8)
    mask[:, :6] = 0
    path = tmp_path / "region.png"
    Image.fromarray(mask).save(path)
    return path


def box(top, right, bottom, left):
    inside = np.zeros((48, 56), dtype=bool)
    inside[top : 48 - bottom, left : 56 - right] = True
    return inside


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--region", "{}"], box(0, 0, 0, 6)),
        (["--set", "region={}"], box(0, 0, 0, 6)),
        (["--ignore-border", "2"], box(2, 2, 2, 2)),
        (["--ignore-border", "1", "2", "3", "4"], box(1, 2, 3, 4)),
        (["--ignore-border", "1", "2", "3", "4", "--region", "{}"], box(1, 2, 3, 6)),
    ],
)
def test_a_region(ssimae, photos, tmp_path, region_file, more, expected):
    """The file holds it; the path that it came from is not needed again."""
    file = tmp_path / "detector.skops"
    more = [text.format(region_file) for text in more]
    outcome = ssimae("train", photos / "good", "-o", file, *CHEAP, *more, "--min-area", "3")
    assert outcome.status == 0
    region_file.unlink()
    detector = load(file)
    np.testing.assert_array_equal(detector.region_, expected)
    assert detector.min_area == 3
    lines = dict(
        line.split(":", 1) for line in ssimae("info", file).output.splitlines() if ":" in line
    )
    assert lines["region"].strip() == f"{100 * expected.mean():.3g} % of 48 x 56 pixels"
    assert lines["min_area"].strip() == "3 pixels"
    assert "region" not in lines["set"] and "min_area" not in lines["set"]


def test_a_region_of_which_the_border_leaves_nothing(ssimae, photos, tmp_path, region_file):
    arguments = ("train", photos / "good", "-o", tmp_path / "d.skops", "--region", region_file)
    outcome = ssimae(*arguments, "--ignore-border", "0", "50", "0", "0")
    assert "leaves nothing of the 48 x 56 pixels of the images and of the region." in outcome.error
    Image.new("L", (9, 7), 255).save(region_file)
    outcome = ssimae(*arguments, "--ignore-border", "1")
    assert "The region has 7 x 9 pixels, and the first image 48 x 56" in outcome.error


def test_images_of_several_sizes_have_no_border_to_ignore(ssimae, tmp_path):
    folder = tmp_path / "good"
    folder.mkdir()
    for side in (40, 48):
        pixels = np.random.default_rng(side).integers(0, 255, (side, side), np.uint8)
        Image.fromarray(pixels).save(folder / f"{side}.png")
    file = tmp_path / "d.skops"
    outcome = ssimae("train", folder, "-o", file, *CHEAP, "--ignore-border", "1")
    assert "A region is for images of one size" in outcome.error
