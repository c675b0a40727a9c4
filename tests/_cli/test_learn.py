"""``ssimae learn``."""

import csv
import hashlib
import shutil

import numpy as np
import pytest
from shared_cli import files_in, load

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.datasets import list_images

# As the report writes it.
COLUMNS = (
    *("path", "verdict", "region", "x", "y", "width", "height", "score", "label", "threshold"),
    *("sha256", "bytes", "report", "detector", "detector_sha256", "detector_threshold"),
)


@pytest.fixture
def images(photos, detector, tmp_path):
    """Images that the detector calls defects, then others, in a folder of their own."""
    folder = shutil.copytree(photos / "test", tmp_path / "photos")
    paths = list_images(folder)
    return [paths[index] for index in np.argsort(detector.predict(paths), kind="stable")]


@pytest.fixture
def write(tmp_path, detector_file):
    """A function that writes verdicts.csv."""

    def write(*verdicts, separator=",", **columns):
        file = tmp_path / "verdicts.csv"
        with file.open("w", newline="", encoding="utf-8") as opened:
            writer = csv.DictWriter(opened, COLUMNS, delimiter=separator)
            writer.writeheader()
            for path, verdict, *region in verdicts:
                row = {"path": path, "verdict": verdict, "region": (region or [""])[0]}
                row |= {"sha256": sha256(path), "detector_sha256": sha256(detector_file)}
                writer.writerow({**row, **columns})
        return file

    return write


def sha256(path):
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return hashlib.sha256(str(path).encode()).hexdigest()


def test_learns(ssimae, images, write, detector_file, tmp_path):
    """What is a defect or skipped is not learnt, nor what is no alarm."""
    before = detector_file.read_bytes()
    verdicts = write(
        (images[0], "good"),
        (images[0], "good", 1),
        (images[1], "defect"),
        (images[2], "good"),
        ("nowhere.png", "skip"),
        ("judged in part.png", "good", 1),
    )
    new = tmp_path / "new.skops"
    outcome = ssimae("learn", detector_file, verdicts, "-o", new)
    assert outcome.status == 0
    taught = load(new)
    # Defects and alarms of these photographs look alike.
    still = (taught.predict(images[1:2]) == -1).all()
    assert ("not found any more" in outcome.errors) != still
    (lesson,) = taught.lessons_
    assert (lesson["n_images"], lesson["n_alarms"], lesson["n_alike"]) == (1, 1, 0)
    threshold = f"{load(detector_file).threshold_:.6g}"
    called = taught.predict(images[:2]) == -1
    assert outcome.output.splitlines() == [
        f"{new}: 1 false alarms taught, 1 are gone",
        f"of further ones of the kind, about 0 of 1 would be gone; the threshold is {threshold} as "
        "before",
        f"defects by verdict: 1 of 1 found before, {int(called[1])} now",
        f"next: ssimae inspect {new} FOLDER -o OUT --report",
        f"to undo: go on with {detector_file}",
    ]
    assert detector_file.read_bytes() == before
    info = ssimae("info", new).output
    assert f"{'learnt:':<12} {lesson['time']}, 1 further good image, 1 of them alarms" in info
    assert info.count("learnt:") == 1
    assert "learnt:" not in ssimae("info", detector_file).output


def test_a_defect_that_is_not_found_any_more(
    ssimae, images, write, detector_file, tmp_path, monkeypatch
):
    def learn_good(self, X):
        assert list(X) == images[:1]
        self.lessons_ = [{"n_alike": 0, "n_alarms": 1}]
        return self.set_params(threshold=1e9)

    monkeypatch.setattr(SSIMAutoencoderDetector, "learn_good", learn_good)
    verdicts = write((images[0], "good"), (images[1], "defect"))
    outcome = ssimae("learn", detector_file, verdicts, "-o", tmp_path / "new.skops")
    assert outcome.status == 0
    assert "1 false alarms taught, 1 are gone" in outcome.output
    assert "defects by verdict: 1 of 1 found before, 0 now" in outcome.output
    assert (
        f"of the defects that were found, 1 are not found any more: {images[1]}." in outcome.errors
    )


@pytest.mark.parametrize("separator", [",", ";"])
def test_images_that_are_elsewhere(
    ssimae, images, write, detector_file, tmp_path, separator, monkeypatch
):
    """--images; the paths need not be the same from there on."""
    verdicts = write((images[0], "good"), separator=separator)
    (tmp_path / "photos").rename(tmp_path / "archive")
    new = tmp_path / "new.skops"
    outcome = ssimae("learn", detector_file, verdicts, "-o", new)
    assert "1 of the 1 images that were judged do not exist" in outcome.error
    assert "--images DIR" in outcome.error
    more = ["--images", tmp_path / "archive"]
    assert ssimae("learn", detector_file, verdicts, "-o", new, *more).status == 0
    assert load(new).lessons_[0]["n_images"] == 1


def test_paths_beside_the_table(ssimae, images, write, detector_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = images[0].removeprefix(f"{tmp_path}/")
    verdicts = write((relative, "good"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert ssimae("learn", detector_file, verdicts, "-o", tmp_path / "new.skops").status == 0


def test_a_report_of_another_detector(ssimae, images, write, detector_file, tmp_path):
    verdicts = write((images[0], "good"), detector_sha256=64 * "f")
    outcome = ssimae("learn", detector_file, verdicts, "-o", tmp_path / "new.skops")
    assert outcome.status == 0
    assert "comes from a report of another detector" in outcome.errors


class TestErrors:
    @pytest.fixture
    def error(self, ssimae, detector_file, tmp_path):
        """What is said, with nothing written."""

        def error(verdicts, *more):
            before = files_in(tmp_path)
            outcome = ssimae("learn", detector_file, verdicts, "-o", tmp_path / "new.skops", *more)
            assert outcome.status == 2
            assert files_in(tmp_path) == before
            return outcome.error

        return error

    def test_no_verdicts(self, error, tmp_path):
        (tmp_path / "results.csv").write_text("path,score,label\n0.png,1.2,good\n")
        for name in ("results.csv", "photo.png"):
            (tmp_path / "photo.png").write_bytes(bytes(range(256)))
            assert "is not a verdicts file" in error(tmp_path / name)
        (tmp_path / "empty.csv").touch()
        assert "is not a verdicts file" in error(tmp_path / "empty.csv")
        assert "There is no file" in error(tmp_path / "nothing.csv")

    def test_an_unknown_verdict(self, error, images, write):
        assert "line 2: the verdict is 'gut'" in error(write((images[0], "gut")))

    def test_images_of_another_report(self, error, images, write, tmp_path):
        verdicts = write(*((f"other/{i}.png", "good") for i in range(5)))
        message = error(verdicts)
        assert "5 of the 5 images that were judged do not exist: 'other/0.png'" in message
        assert message.count(".png'") == 3 and "and 2 more" in message
        assert "of another report?" in error(verdicts, "--images", tmp_path / "photos")

    def test_an_image_that_changed(self, error, images, write):
        verdicts = write((images[0], "good"))
        shutil.copy(images[2], images[0])
        message = error(verdicts)
        assert "1 of the 1 images are others than those that were judged" in message
        assert repr(images[0]) in message

    @pytest.mark.parametrize("second", [("defect",), ("skip",), ("defect", 1)])
    def test_contradictions(self, error, images, write, second):
        message = error(write((images[0], "good"), (images[0], *second)))
        assert f"The verdicts on {images[0]} contradict each other" in message
        assert f"good in line 2, {second[0]} in line 3" in message

    def test_contradictions_on_copies(self, error, images, write, tmp_path):
        copy = shutil.copy(images[0], tmp_path / "copy.png")
        message = error(write((images[0], "good"), (copy, "defect")))
        assert f"on {images[0]}, which is a copy of {copy}, contradict" in message

    def test_nothing_to_learn(self, error, images, write):
        message = error(write((images[-1], "good"), (images[0], "defect")))
        assert "nothing to learn: 1 images are good by verdict" in message

    def test_the_old_file(self, ssimae, images, write, detector_file, tmp_path):
        old = tmp_path / "detector.skops"
        shutil.copy(detector_file, old)
        outcome = ssimae("learn", old, write((images[0], "good")), "-o", old)
        assert outcome.status == 2
        assert "-o must name another file" in outcome.error
        assert old.read_bytes() == detector_file.read_bytes()
