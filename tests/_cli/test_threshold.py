"""``ssimae threshold``."""

import pytest
from shared_cli import files_in, load, whole_category

from sklearn_ssimae.datasets import list_images


def test_a_value(ssimae, detector, detector_file, tmp_path):
    file = tmp_path / "strict.skops"
    outcome = ssimae("threshold", detector_file, "--value", "0.25", "-o", file)
    assert outcome.status == 0
    assert outcome.output == f"{file}: threshold 0.25\n"
    assert load(file).get_params() == {**detector.get_params(), "threshold": 0.25}
    assert load(file).threshold_ == 0.25


@pytest.mark.parametrize(("more", "rate"), [([], 0.01), (["--false-alarm-rate", "0.2"], 0.2)])
def test_a_rate(ssimae, photos, detector, detector_file, tmp_path, more, rate):
    """The detector's file has a threshold that was set; what is learnt takes its place."""
    file = tmp_path / "detector.skops"
    outcome = ssimae("threshold", detector_file, photos / "test", *more, "-o", file)
    assert outcome.status == 0
    expected = load(detector_file).set_params(threshold=None)
    expected.fit_threshold(list_images(photos / "test"), false_alarm_rate=rate)
    assert load(file).threshold_ == expected.threshold_ != detector.threshold_
    assert outcome.output == f"{file}: threshold {expected.threshold_:.6g}\n"


def test_a_whole_category(ssimae, photos, detector_file, tmp_path):
    outcome = ssimae("threshold", detector_file, whole_category(photos, tmp_path), "-o", "d.skops")
    assert outcome.status == 2
    assert outcome.error.endswith(f"probably {str(tmp_path / 'grid/train/good')!r}.")


def test_the_same_file(ssimae, detector_file, tmp_path):
    file = tmp_path / "detector.skops"
    file.write_bytes(detector_file.read_bytes())
    assert ssimae("threshold", file, "--value", "0.5", "-o", file).status == 0
    assert load(file).threshold == 0.5
    assert files_in(tmp_path) == {"detector.skops"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "Give either GOOD_DIR"),
        (["good", "--value", "1"], "Give either GOOD_DIR"),
        (["--value", "1", "--false-alarm-rate", "0.1"], "--false-alarm-rate needs GOOD_DIR"),
        (["--value", "high"], "'high' is no finite number"),
        (["--value", "inf"], "'inf' is no finite number"),
        (["good", "--false-alarm-rate", "0"], "'0' is not between 0 and 1"),
        (["good", "--false-alarm-rate", "1"], "'1' is not between 0 and 1"),
        (["nowhere"], "There is no folder"),
    ],
)
def test_errors(ssimae, photos, detector_file, tmp_path, monkeypatch, more, message):
    monkeypatch.chdir(photos)
    outcome = ssimae("threshold", detector_file, *more, "-o", tmp_path / "new.skops")
    assert outcome.status == 2
    assert message in outcome.error
    assert files_in(tmp_path) == set()
