"""``ssimae threshold``."""

import pytest
from shared_cli import files_in, load, whole_category

from sklearn_ssimae.datasets import list_images


def test_a_value(ssimae, detector, detector_file, tmp_path):
    file = tmp_path / "strict.skops"
    outcome = ssimae("threshold", detector_file, "--value", "0.25", "-o", file)
    assert outcome.status == 0
    assert outcome.output == (
        f"{file}: threshold {detector.threshold_:.6g} -> 0.25\n"
        "before: set by the parameter threshold, not learnt\n"
        "now: set by the parameter threshold, not learnt\n"
    )
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
    first, before, now = outcome.output.splitlines()
    assert first == f"{file}: threshold {detector.threshold_:.6g} -> {expected.threshold_:.6g}"
    assert before == "before: set by the parameter threshold, not learnt"
    assert now == f"now: {expected.threshold_basis_}"


@pytest.mark.parametrize(
    ("rate", "basis"),
    [
        ("0.001", "0.001 of good images, extrapolated with the Gumbel distribution from the "
         "largest residuals of 4 good images; fewer than 999 images: up to 0.005 in simulations"),
        ("0.25", "0.25 of good images, by rank among the largest residuals of 4 good images"),
    ],
)  # fmt: skip
def test_what_old_and_new_threshold_rest_on(ssimae, photos, detector_file, tmp_path, rate, basis):
    first, second = tmp_path / "first.skops", tmp_path / "second.skops"
    one = tmp_path / "good"
    one.mkdir()
    (one / "0.png").symlink_to(photos / "test/a/0.png")
    ssimae("threshold", detector_file, one, "-o", first)
    outcome = ssimae("threshold", first, photos / "test", "--false-alarm-rate", rate, "-o", second)
    told, before, now = outcome.output.splitlines()
    assert told == (
        f"{second}: threshold {load(first).threshold_:.6g} -> {load(second).threshold_:.6g}"
    )
    assert before.startswith("before: exceeded by 0.01 of good images, extrapolated")
    assert "It rests on 1 image alone" in before
    assert now == f"now: exceeded by {basis}"


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
        (["--value", "high"], "'high' is not a finite number"),
        (["--value", "inf"], "'inf' is not a finite number"),
        (["--value", "2,5"], "'2,5' is not a finite number: write 2.5"),
        (["good", "--false-alarm-rate", "0,01"], "'0,01' is not a finite number: write 0.01"),
        (["good", "--false-alarm-rate", "1%"], "'1%' is not a number between 0 and 1: write 0.01"),
        (
            ["good", "--false-alarm-rate", "0,5 %"],
            "'0,5 %' is not a number between 0 and 1: write 0.0",
        ),
        (["good", "--false-alarm-rate", "high%"], "'high%' is not a number between 0 and 1"),
        (["good", "--false-alarm-rate", "5"], "'5' is not between 0 and 1; 5 % is 0.05"),
        (["good", "--false-alarm-rate", "0"], "'0' is not between 0 and 1"),
        (["good", "--false-alarm-rate", "1"], "'1' is not between 0 and 1"),
        (["nowhere"], "There is no folder"),
        (["good/0.png"], "'good/0.png' is a file. A folder is needed here"),
    ],
)
def test_errors(ssimae, photos, detector_file, tmp_path, monkeypatch, more, message):
    monkeypatch.chdir(photos)
    outcome = ssimae("threshold", detector_file, *more, "-o", tmp_path / "new.skops")
    assert outcome.status == 2
    assert message in outcome.error
    assert files_in(tmp_path) == set()
