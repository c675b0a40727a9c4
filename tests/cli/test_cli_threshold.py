"""``ssimae threshold``."""

import pytest
from cli_helpers import files_in, load

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.datasets import list_images


def test_a_value(ssimae, detector, detector_file, tmp_path):
    file = tmp_path / "strict.skops"
    outcome = ssimae("threshold", detector_file, "--value", "0.25", "-o", file)
    assert outcome.status == 0
    assert load(file).get_params() == {**detector.get_params(), "threshold": 0.25}
    assert outcome.output.startswith(f"{file}: threshold ")
    assert outcome.output.endswith(f"was {detector.threshold_:.6g}\n")


@pytest.mark.parametrize(("more", "rate"), [([], 0.01), (["--false-alarm-rate", "0.2"], 0.2)])
def test_a_rate(ssimae, photos, detector_file, tmp_path, monkeypatch, more, rate):
    """The rate and the images reach the detector, and its new threshold the file."""

    def recalibrate(self, X, *, false_alarm_rate):
        assert list(X) == list_images(photos / "good")
        self.threshold_ = 1.0 + false_alarm_rate
        return self

    monkeypatch.setattr(SSIMAutoencoderDetector, "recalibrate", recalibrate, raising=False)
    file = tmp_path / "detector.skops"
    outcome = ssimae("threshold", detector_file, photos / "good", *more, "-o", file)
    assert outcome.status == 0
    assert load(file).threshold_ == 1 + rate
    assert f"threshold {1 + rate}, was " in outcome.output


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
