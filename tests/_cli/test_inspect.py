"""``ssimae inspect``: what lies in the folder of results is what the detector says."""

import csv
import os
import re
import warnings
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shared_cli import files_in

from sklearn_ssimae._cli import arrivals, inspect, results
from sklearn_ssimae.datasets import list_images
from sklearn_ssimae.inspection import write_report
from sklearn_ssimae.inspection._report import Seen

COLUMNS = (
    "path score p label n_defects defect_area x y width height error "
    "time threshold detector detector_sha256"
)
TABLES = {"results.csv", "defects.csv"}


def read_table(folder):
    with open(folder / "results.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_image(path):
    with Image.open(path) as file:
        return np.asarray(file)


def test_the_table_is_what_the_detector_says(ssimae, photos, detector, detector_file, tmp_path):
    outcome = ssimae("inspect", detector_file, photos / "test", "-o", tmp_path / "out")
    assert outcome.status == 0
    assert outcome.errors == ""
    images = list_images(photos / "test")
    labels, masks = detector.predict(images), detector.segment(images)
    assert set(labels) == {-1, 1}
    rows = read_table(tmp_path / "out")
    assert " ".join(rows[0]) == COLUMNS
    assert [row["path"] for row in rows] == images
    scores = [float(row["score"]) for row in rows]
    np.testing.assert_allclose(scores, -detector.score_samples(images), rtol=1e-5)
    assert [row["label"] for row in rows] == ["defect" if sign < 0 else "good" for sign in labels]
    assert [int(row["defect_area"]) for row in rows] == [mask.sum() for mask in masks]
    assert {row["error"] for row in rows} == {""}
    assert f"2 good, 2 with defects, 0 not inspected; threshold {detector.threshold_:.6g}" in (
        outcome.output
    )
    assert files_in(tmp_path / "out") == TABLES


def test_masks_and_maps(ssimae, photos, detector, detector_file, tmp_path):
    """A name for every image, in whatever folder and with whatever ending."""
    ssimae("inspect", detector_file, photos / "test", "-o", tmp_path, "--masks", "--maps")
    names = {
        "1.tif": ("1.tif.png", "1.tif.tiff"),
        "a/0.bmp": ("a/0.bmp.png", "a/0.bmp.tiff"),
        "a/0.png": ("a/0.png", "a/0.png.tiff"),
        "b/0.png": ("b/0.png", "b/0.png.tiff"),
    }
    for image, (mask, residual) in names.items():
        path = str(photos / "test" / image)
        stored = read_image(tmp_path / "masks" / mask)
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(stored, detector.segment([path])[0] * np.uint8(255))
        stored = read_image(tmp_path / "maps" / residual)
        assert stored.dtype == np.float32
        np.testing.assert_array_equal(stored, detector.transform([path])[0])
    expected = {f"masks/{mask}" for mask, _ in names.values()}
    expected |= {f"maps/{residual}" for _, residual in names.values()}
    assert files_in(tmp_path) == TABLES | expected


def test_masks_of_names_with_two_endings(ssimae, photos, detector_file, tmp_path):
    """No two images share a file, whatever they are called."""
    folder, good, bad = tmp_path / "line", photos / "test/a/0.png", photos / "test/b/0.png"
    folder.mkdir()
    names = {
        "x.jpg": "x.jpg.png",
        "x.jpg.png": "x.jpg.png.png",
        "x.jpg.png.png": "x.jpg.png.png.png",
        "x.png": "x.png",
        "x.tiff": "x.tiff.png",
        "x.v2.png": "x.v2.png",
    }
    for name in names:
        (folder / name).symlink_to(bad if name == "x.jpg" else good)
    ssimae("inspect", detector_file, folder, "-o", tmp_path / "out", "--masks", "--maps")
    assert files_in(tmp_path / "out/masks") == set(names.values())
    assert len(files_in(tmp_path / "out/maps")) == len(names)
    marked = {name: read_image(tmp_path / "out/masks" / mask).any() for name, mask in names.items()}
    assert marked == {name: name == "x.jpg" for name in names}


@given(st.sets(st.text(".apgnjtif", min_size=5, max_size=12).map(lambda t: t + ".png")))
@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_no_two_names_become_one(ending, stems):
    """Of an image, and of images whose names are longer by an ending."""
    names = {name + more for name in stems for more in ("", ".png", ".jpg", ".tiff", ".jpg.png")}
    assert len({results.stored_name(name, ending) for name in names}) == len(names)


def test_files_and_folders(ssimae, photos, detector_file, tmp_path):
    """Named from the folder that they have in common; an image that is given twice counts once."""
    given = [photos / "test/b", photos / "test/a/0.png", photos / "test/b/0.png"]
    ssimae("inspect", detector_file, *given, "-o", tmp_path, "--masks")
    assert [row["path"] for row in read_table(tmp_path)] == [str(given[2]), str(given[1])]
    assert files_in(tmp_path / "masks") == {"a/0.png", "b/0.png"}


def test_one_file(ssimae, photos, detector_file, tmp_path, monkeypatch):
    monkeypatch.chdir(photos / "test/a")
    assert ssimae("inspect", detector_file, "0.png", "-o", tmp_path, "--masks").status == 0
    assert files_in(tmp_path) == TABLES | {"masks/0.png"}


@pytest.mark.parametrize(("images", "status"), [("b", 1), ("a/0.png", 0)])
def test_status_tells_of_defects(ssimae, photos, detector_file, tmp_path, images, status):
    arguments = ("inspect", detector_file, photos / "test" / images, "-o", tmp_path)
    assert ssimae(*arguments).status == 0
    assert read_table(tmp_path)[0]["label"] == ("defect" if status else "good")
    assert ssimae(*arguments, "--fail-on-defect").status == status


def test_an_image_that_cannot_be_inspected(ssimae, detector_file, photos, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("0.png", "3.png"):
        (folder / name).write_bytes((photos / "test/a/0.png").read_bytes())
    (folder / "1.png").write_bytes(b"no image")
    Image.new("RGB", (40, 40), "red").save(folder / "2.png")
    outcome = ssimae("inspect", detector_file, folder, "-o", tmp_path / "out", "--fail-on-defect")
    assert outcome.status == 2
    damaged, coloured = outcome.errors.splitlines()
    assert damaged.startswith("ssimae: error: ") and "1.png is not a readable image: " in damaged
    assert coloured.startswith("ssimae: error: ") and "2.png has 3 channels" in coloured
    rows = read_table(tmp_path / "out")
    assert [row["label"] for row in rows] == ["good", "", "", "good"]
    assert [row["score"] == "" for row in rows] == [False, True, True, False]
    assert "not a readable image" in rows[1]["error"] and "3 channels" in rows[2]["error"]
    assert "2 good, 0 with defects, 2 not inspected" in outcome.output


def test_memory_is_that_of_a_few_images(ssimae, photos, detector_file, tmp_path, monkeypatch):
    lengths = []
    see = inspect.see

    def spy(detector, images):
        lengths.append(len(images))
        return see(detector, images)

    monkeypatch.setattr(inspect, "see", spy)
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(20):
        (folder / f"{index:02}.png").symlink_to(photos / "test/a/0.png")
    ssimae("inspect", detector_file, folder, "-o", tmp_path / "out")
    assert lengths == [8, 8, 4]
    assert len(read_table(tmp_path / "out")) == 20


def test_masks_are_not_inspected(ssimae, photos, detector_file, tmp_path):
    """The folder of results may lie in that of the images."""
    image = tmp_path / "0.png"
    image.write_bytes((photos / "test/a/0.png").read_bytes())
    for _ in range(2):
        ssimae("inspect", detector_file, tmp_path, "-o", tmp_path / "out", "--masks")
    assert [row["path"] for row in read_table(tmp_path / "out")] == [str(image)]
    outcome = ssimae("inspect", detector_file, tmp_path, "-o", tmp_path)
    assert outcome.status == 2
    assert "lie in the output folder" in outcome.error


def test_report(ssimae, photos, detector, detector_file, tmp_path):
    """That of the Python interface, on the images that could be inspected."""
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    out = tmp_path / "out"
    outcome = ssimae("inspect", detector_file, photos / "test", damaged, "-o", out, "--report")
    assert outcome.output.splitlines()[-1] == f"report: {out / 'report.html'}"
    images, expected = list_images(photos / "test"), tmp_path / "expected.html"
    write_report(expected, detector, images, detector_file=detector_file)
    # But for the minute in which each was written.
    written, expected = (
        re.sub("<time.*?</time>", "", path.read_text(encoding="utf-8"))
        for path in (out / "report.html", expected)
    )
    assert written == expected
    assert files_in(out) == TABLES | {"report.html"}


def test_the_report_needs_no_second_look(
    ssimae, photos, detector, detector_file, tmp_path, monkeypatch
):
    """The network sees as many patches as without a report."""
    seen = []
    forward = type(detector.network_).forward

    def spy(self, patches):
        seen.append(len(patches))
        return forward(self, patches)

    monkeypatch.setattr(type(detector.network_), "forward", spy)
    counts = []
    for more in ([], ["--report"]):
        seen.clear()
        out = tmp_path / f"out{len(more)}"
        ssimae("inspect", detector_file, photos / "test", "-o", out, *more)
        counts.append(sum(seen))
    assert counts[0] == counts[1] > 0
    tables = [read_table(tmp_path / out) for out in ("out0", "out1")]
    for row in tables[0] + tables[1]:
        del row["time"]
    assert tables[0] == tables[1]


def test_no_map_waits_for_the_report(ssimae, photos, detector_file, tmp_path, monkeypatch):
    """What is kept of an image is its card: maps go when their group is done."""
    alive, most = weakref.WeakSet(), []

    class Watched(Seen):
        __hash__ = object.__hash__

        def __init__(self, *fields):
            super().__init__(*fields)
            alive.add(self)
            most.append(len(alive))

    monkeypatch.setattr("sklearn_ssimae.inspection._report.seeing.Seen", Watched)
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(30):
        (folder / f"{index:02}.png").symlink_to(photos / "test/a/0.png")
    ssimae("inspect", detector_file, folder, "-o", tmp_path / "out", "--report")
    assert len(most) == 30
    assert max(most) <= 10
    assert (tmp_path / "out/report.html").is_file()


def test_no_report_of_nothing(ssimae, detector_file, tmp_path):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    outcome = ssimae("inspect", detector_file, damaged, "-o", tmp_path / "out", "--report")
    assert outcome.status == 2
    assert files_in(tmp_path / "out") == TABLES


# Watching -----------------------------------------------------------------------------


@pytest.fixture
def seconds(monkeypatch):
    """Stands for the clock of --watch: a list of what happens in each second, then Ctrl-C."""
    events = []

    def sleep(duration):
        assert duration == arrivals.POLL_SECONDS
        if not events:
            raise KeyboardInterrupt
        events.pop(0)()

    monkeypatch.setattr(arrivals.time, "sleep", sleep)
    return events


def nothing():
    pass


def test_watch(ssimae, photos, detector, detector_file, tmp_path, seconds):
    """Files that are there, that arrive, that are written slowly, that change."""
    folder, out = tmp_path / "line", tmp_path / "line/out"
    folder.mkdir()
    good, bad = (photos / "test" / name for name in ("a/0.png", "b/0.png"))
    content = bad.read_bytes()
    slow, other = folder / "slow.png", folder / "other.png"

    def replace():
        other.write_bytes(content)
        os.utime(other, ns=(0, 0))

    other.write_bytes(good.read_bytes())
    seconds += [nothing, lambda: slow.write_bytes(content[:99])]
    seconds += [lambda: slow.write_bytes(content), nothing, replace, nothing]
    outcome = ssimae("inspect", detector_file, "--watch", folder, "-o", out, "--masks")
    assert outcome.status == 0
    assert outcome.errors == ""
    found = [(row["path"], row["label"]) for row in read_table(out)]
    assert found == [(str(other), "good"), (str(slow), "defect"), (str(other), "defect")]
    assert files_in(out) == TABLES | {"masks/other.png", "masks/slow.png"}
    assert "1 good, 2 with defects, 0 not inspected" in outcome.output


def test_watch_that_is_started_again_goes_on(ssimae, photos, detector_file, tmp_path, seconds):
    folder, out = tmp_path / "line", tmp_path / "out"
    folder.mkdir()
    content = (photos / "test/b/0.png").read_bytes()
    arguments = ("inspect", detector_file, "--watch", folder, "-o", out, "--fail-on-defect")
    assert ssimae(*arguments).status == 0
    assert read_table(out) == []
    (folder / "0.png").write_bytes(content)
    seconds += [nothing]
    assert ssimae(*arguments).status == 1
    (folder / "1.png").write_bytes(content)
    seconds += [nothing]
    assert ssimae(*arguments).status == 1
    rows = read_table(out)
    assert [row["path"] for row in rows] == [str(folder / name) for name in ("0.png", "1.png")]
    assert rows[0]["p"] == rows[1]["p"] != ""


def test_watch_tries_failed_images_again(ssimae, photos, detector_file, tmp_path, seconds):
    """When they change, and when it is started again."""
    folder, out = tmp_path / "line", tmp_path / "out"
    folder.mkdir()
    content = (photos / "test/a/0.png").read_bytes()
    arguments = ("inspect", detector_file, "--watch", folder, "-o", out)
    (folder / "0.png").write_bytes(content[:99])
    (folder / "1.png").write_bytes(content[:99])
    seconds += [nothing, lambda: (folder / "1.png").write_bytes(content), nothing]
    assert ssimae(*arguments).status == 2
    labels = [(row["path"][-5:], row["label"]) for row in read_table(out)]
    assert labels == [("0.png", ""), ("1.png", ""), ("1.png", "good")]
    (folder / "0.png").write_bytes(content)
    seconds += [nothing]
    outcome = ssimae(*arguments)
    assert outcome.status == 0
    assert "1 good, 0 with defects, 0 not inspected" in outcome.output
    labels = [(row["path"][-5:], row["label"]) for row in read_table(out)]
    assert labels == [("1.png", "good"), ("0.png", "good")]


def test_watch_goes_on_after_a_full_disk(ssimae, photos, detector_file, tmp_path, seconds):
    folder, out = tmp_path / "line", tmp_path / "out"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index}.png").symlink_to(photos / "test/a/0.png")
    arguments = ("inspect", detector_file, "--watch", folder, "-o", out)
    seconds += [nothing]
    ssimae(*arguments)
    table = out / "results.csv"
    table.write_bytes(table.read_bytes()[:-20])
    (folder / "3.png").symlink_to(photos / "test/a/0.png")
    seconds += [nothing]
    outcome = ssimae(*arguments)
    assert outcome.status == 0
    (line,) = outcome.errors.splitlines()
    assert line.startswith(f"ssimae: warning: {table}: a row that is not whole was removed")
    names = [row["path"] for row in read_table(out)]
    assert names == [str(folder / f"{index}.png") for index in range(4)]


@pytest.mark.parametrize("name", ["line", "./line/", "link", "../{root}/line", "{folder}"])
def test_watch_knows_a_folder_by_where_it_is(
    ssimae, photos, detector_file, tmp_path, seconds, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "line"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    (folder / "0.png").symlink_to(photos / "test/a/0.png")
    arguments = ("inspect", detector_file, "-o", tmp_path / "out", "--watch")
    seconds += [nothing]
    assert "1 good" in ssimae(*arguments, "line").output
    monkeypatch.chdir(tmp_path if "." in name or name in ("line", "link") else photos)
    seconds += [nothing]
    again = name.format(root=tmp_path.name, folder=folder)
    assert "0 good, 0 with defects, 0 not inspected" in ssimae(*arguments, again).output
    assert [row["path"] for row in read_table(tmp_path / "out")] == [str(folder / "0.png")]


def test_images_by_several_names_count_once(ssimae, photos, detector_file, tmp_path, monkeypatch):
    monkeypatch.chdir(photos / "test")
    (tmp_path / "link").symlink_to(photos / "test")
    given = ["a/0.png", "./a/0.png", photos / "test/a/0.png", tmp_path / "link/a/0.png", "b/../a"]
    ssimae("inspect", detector_file, *given, "-o", tmp_path / "out")
    assert [row["path"] for row in read_table(tmp_path / "out")] == ["a/0.png", "b/../a/0.bmp"]


def test_watch_says_once_what_it_passes_over(tmp_path, seconds, monkeypatch):
    def list_images(folder):
        warnings.warn("one folder is passed over", UserWarning, stacklevel=2)
        return [str(tmp_path / "0.png")]

    (tmp_path / "0.png").touch()
    monkeypatch.setattr(arrivals, "list_images", list_images)
    seconds += [nothing, nothing, nothing]
    with pytest.warns(UserWarning, match="passed over") as caught:
        found = arrivals.watch(tmp_path, tmp_path / "out", [])
        assert next(found) == [str(tmp_path / "0.png")]
        with pytest.raises(KeyboardInterrupt):
            next(found)
    assert len(caught) == 1


def test_a_report_of_images_that_have_gone(ssimae, photos, detector_file, tmp_path, seconds):
    folder, out = tmp_path / "line", tmp_path / "out"
    folder.mkdir()
    image = folder / "0.png"
    image.write_bytes((photos / "test/a/0.png").read_bytes())
    seconds += [nothing, image.unlink]
    outcome = ssimae("inspect", detector_file, "--watch", folder, "-o", out, "--report")
    assert outcome.status == 0
    assert '<h2 title="0.png">' in (out / "report.html").read_text(encoding="utf-8")


def test_watch_sees_files_go(tmp_path, seconds, monkeypatch):
    """Between the look at the folder and the look at the file."""
    (tmp_path / "0.png").symlink_to(tmp_path / "target")
    monkeypatch.setattr(arrivals, "list_images", lambda folder: [str(tmp_path / "0.png")])
    seconds += [nothing]
    with pytest.raises(KeyboardInterrupt):
        next(arrivals.watch(tmp_path, tmp_path / "out", []))


def test_watch_does_not_go_on_with_another_table(ssimae, detector_file, tmp_path):
    (tmp_path / "results.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    outcome = ssimae("inspect", detector_file, "--watch", tmp_path, "-o", tmp_path)
    assert outcome.status == 2
    assert "is no table of results" in outcome.error


# Errors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give images, or folders of images, or --watch DIR"),
        (["empty", "--watch", "empty"], "Give images, or folders of images, or --watch DIR"),
        (["nowhere"], "There is no file or folder 'nowhere'"),
        (["empty"], "The folder 'empty' holds no images"),
        (["texts"], "The folder 'texts' holds no images"),
        (["--watch", "nowhere"], "There is no folder 'nowhere'"),
    ],
)
def test_nothing_to_inspect(ssimae, detector_file, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("12", encoding="utf-8")
    outcome = ssimae("inspect", detector_file, *arguments, "-o", "out")
    assert outcome.status == 2
    assert message in outcome.error
    assert not (tmp_path / "out").exists()


def test_output_that_is_a_file(ssimae, photos, detector_file, tmp_path):
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    outcome = ssimae("inspect", detector_file, photos / "test", "-o", tmp_path / "out")
    assert outcome.status == 2
    assert outcome.error.endswith("out: File exists")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


def test_full_disk(ssimae, photos, detector_file, tmp_path, monkeypatch):
    """An error of the output ends the run, and leaves no part of a mask."""

    def save(image, path, *arguments):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Image.Image, "save", save)
    outcome = ssimae("inspect", detector_file, photos / "test", "-o", tmp_path, "--masks")
    assert outcome.status == 2
    assert "No space left on device" in outcome.error
    assert files_in(tmp_path) == TABLES
    assert read_table(tmp_path) == []
