"""``ssimae inspect``: defects as a table and as COCO, and what of a table can be traced."""

import contextlib
import csv
import hashlib
import io
import json
import re

import numpy as np
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools.coco import COCO
from shared_cli import files_in
from skimage.measure import label, regionprops

from sklearn_ssimae._cli import arrivals, coco, results
from sklearn_ssimae._cli.table import Form
from sklearn_ssimae.datasets import list_images
from sklearn_ssimae.inspection import find_defects
from sklearn_ssimae.inspection._defects import measure


def read_table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def inspect(ssimae, photos, detector_file, tmp_path):
    """A function that inspects the test images; the results lie in ``out``."""

    def run(*more):
        return ssimae("inspect", detector_file, photos / "test", "-o", tmp_path / "out", *more)

    return run


@pytest.mark.parametrize("mm_per_pixel", [None, 0.25])
def test_rows_are_those_of_find_defects(inspect, photos, detector, tmp_path, mm_per_pixel):
    more = [] if mm_per_pixel is None else ["--mm-per-pixel", mm_per_pixel]
    assert inspect(*more).errors == ""
    images = list_images(photos / "test")
    expected = find_defects(detector, images, mm_per_pixel=mm_per_pixel)
    rows = read_table(tmp_path / "out/defects.csv")
    assert list(rows[0]) == ["path", *list(expected)[1:]]
    assert [row["path"] for row in rows] == [images[i] for i in expected.pop("image")]
    for name, values in expected.items():
        found = [row[name] for row in rows]
        if values.dtype.kind == "f":
            np.testing.assert_allclose(np.array(found, float), values, rtol=1e-5, atol=1e-12)
        else:
            assert found == [str(value) for value in values]


def test_defects_are_regions():
    """Against scikit-image, with regions that touch at a corner."""
    mask = np.random.default_rng(0).random((40, 60)) > 0.7
    regions = regionprops(label(mask, connectivity=2))
    row = results.describe(measure(mask.astype(float), 0.5))
    largest = max(regions, key=lambda region: region.area)
    top, left, bottom, right = largest.bbox
    assert row == {
        "label": "defect",
        "n_defects": len(regions),
        "defect_area": mask.sum(),
        "x": left,
        "y": top,
        "width": right - left,
        "height": bottom - top,
    }
    assert results.describe(measure(np.zeros((3, 4)), 0.5)) == {
        "label": "good",
        "n_defects": 0,
        "defect_area": 0,
    }


def test_a_least_area(inspect, detector, photos, tmp_path):
    """For this run; the threshold was set, so nothing is to be said of it."""
    inspect("--min-area", 0)
    areas = [int(row["area"]) for row in read_table(tmp_path / "out/defects.csv")]
    least = max(areas)
    assert min(areas) < least
    outcome = inspect("--min-area", least)
    assert outcome.errors == ""
    rows = read_table(tmp_path / "out/defects.csv")
    assert {int(row["area"]) for row in rows} == {least}


def test_a_least_area_for_which_the_threshold_was_not_learnt(ssimae, detector, photos, tmp_path):
    """It is said once, however many images there are."""
    file = tmp_path / "learnt.skops"
    learnt = type(detector)(**{**detector.get_params(), "threshold": None})
    with pytest.warns(UserWarning):
        learnt.fit(sorted(map(str, photos.glob("good/*.png"))))
    skops.io.dump(learnt, file)
    arguments = ("inspect", file, photos / "test", "-o", tmp_path / "out")
    assert ssimae(*arguments).errors == ""
    (line,) = ssimae(*arguments, "--min-area", 9).errors.splitlines()
    assert "The threshold was learnt for another map: min_area is 9 and was 0" in line


# COCO ---------------------------------------------------------------------------------


def read_coco(file):
    with contextlib.redirect_stdout(io.StringIO()):  # it tells how long it took
        return COCO(str(file))


# pycocotools itself, with NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco(inspect, photos, detector, tmp_path):
    """As pycocotools reads it: the masks are those of `segment`."""
    file = tmp_path / "defects.json"
    assert inspect("--coco", file).errors == ""
    data = read_coco(file)
    assert data.loadCats(data.getCatIds()) == [{"id": 1, "name": "defect"}]
    assert "sklearn-ssimae" in data.dataset["info"]["version"]
    rows = read_table(tmp_path / "out/defects.csv")
    assert len(data.anns) == len(rows)
    for image, path in zip(data.imgs.values(), list_images(photos / "test"), strict=True):
        assert str(photos / "test" / image["file_name"]) == path
        mask = detector.segment([path])[0]
        assert (image["height"], image["width"]) == mask.shape
        found = data.loadAnns(data.getAnnIds(image["id"]))
        decoded = np.zeros(mask.shape, dtype=int)
        for annotation in found:
            decoded += data.annToMask(annotation)
        np.testing.assert_array_equal(decoded, mask)
    for annotation, row in zip(data.anns.values(), rows, strict=True):
        box = [int(row[name]) for name in ("left", "top", "right", "bottom")]
        assert annotation["bbox"] == [*box[:2], box[2] - box[0], box[3] - box[1]]
        assert annotation["area"] == int(row["area"])
        assert annotation["score"] == pytest.approx(float(row["peak"]), rel=1e-5)
        assert annotation["iscrowd"] == 0


@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_run_lengths(mask):
    """Of all pixels, column by column, the runs outside and inside in turn."""
    mask[0, 0] |= not mask.any()
    counts = coco.run_lengths(mask, 1, 2, (8, 9))
    whole = np.zeros((8, 9), dtype=bool)
    whole[1 : 1 + mask.shape[0], 2 : 2 + mask.shape[1]] = mask
    values = np.arange(len(counts)) % 2 == 1
    np.testing.assert_array_equal(np.repeat(values, counts), whole.ravel(order="F"))
    assert all(count > 0 for count in counts[1:-1])


def test_no_part_of_a_coco_file(inspect, tmp_path, monkeypatch):
    """Nor is an earlier one lost; a folder that is missing is told before the inspection."""
    file = tmp_path / "defects.json"
    file.write_text("earlier")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(coco.Coco, "add", stop)
    assert inspect("--coco", file).status == 130
    assert file.read_text() == "earlier"
    assert files_in(tmp_path) == {"defects.json", "out/results.csv", "out/defects.csv"}
    outcome = inspect("--coco", tmp_path / "nowhere/defects.json")
    assert "There is no folder" in outcome.error
    assert outcome.output == ""


# Watching -----------------------------------------------------------------------------


def test_defects_of_an_image_that_changes(ssimae, photos, detector_file, tmp_path, monkeypatch):
    """Those of its last inspection, in the table and after Ctrl-C in the COCO file."""
    folder, out, file = tmp_path / "line", tmp_path / "out", tmp_path / "defects.json"
    folder.mkdir()
    good, bad = (photos / "test" / name for name in ("a/0.png", "b/0.png"))
    (folder / "0.png").write_bytes(bad.read_bytes())
    (folder / "1.png").write_bytes(bad.read_bytes())
    seconds = [lambda: None, lambda: (folder / "0.png").write_bytes(good.read_bytes())]
    seconds += [lambda: None]

    def sleep(_):
        if not seconds:
            raise KeyboardInterrupt
        seconds.pop(0)()

    monkeypatch.setattr(arrivals.time, "sleep", sleep)
    arguments = ("inspect", detector_file, "--watch", folder, "-o", out, "--coco", file)
    assert ssimae(*arguments).status == 0
    labels = [(row["path"][-5:], row["label"]) for row in read_table(out / "results.csv")]
    assert labels == [("0.png", "defect"), ("1.png", "defect"), ("0.png", "good")]
    assert {row["path"][-5:] for row in read_table(out / "defects.csv")} == {"1.png"}
    data = read_coco(file)
    assert [image["file_name"] for image in data.imgs.values()] == ["0.png", "1.png"]
    assert {annotation["image_id"] for annotation in data.anns.values()} == {2}

    tables = [(out / name).read_bytes() for name in ("results.csv", "defects.csv")]
    seconds += [lambda: None]
    assert ssimae(*arguments).status == 0
    assert [(out / name).read_bytes() for name in ("results.csv", "defects.csv")] == tables
    outcome = ssimae(*arguments, "--excel")
    assert "results.csv' was written in another form" in outcome.error
    outcome = ssimae(*arguments, "--mm-per-pixel", 1)
    assert "defects.csv' was written in another form" in outcome.error


# Tracing, Excel -----------------------------------------------------------------------


def test_rows_say_when_and_by_what(inspect, detector, detector_file, tmp_path):
    inspect()
    digest = hashlib.sha256(detector_file.read_bytes()).hexdigest()
    for row in read_table(tmp_path / "out/results.csv"):
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["time"])
        assert row["threshold"] == f"{detector.threshold_:.6g}"
        assert (row["detector"], row["detector_sha256"]) == (detector_file.name, digest[:12])


def test_tables_for_excel(inspect, tmp_path, monkeypatch):
    """With decimal commas; apart from these the same."""
    plain = {}
    for is_excel in (False, True):
        monkeypatch.setattr(results, "form_for_excel", lambda: Form("\ufeff", ";", ","))
        monkeypatch.setattr(results, "now", lambda: "2026-05-04T03:02:01Z")
        inspect(*(["--excel"] if is_excel else []))
        for name in ("results.csv", "defects.csv"):
            text = (tmp_path / "out" / name).read_text(encoding="utf-8")
            if not is_excel:
                plain[name] = list(csv.reader(io.StringIO(text)))
                continue
            rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff")), delimiter=";"))
            assert text.startswith("\ufeff")
            number = rows[1][rows[0].index("score" if name == "results.csv" else "peak")]
            assert "." not in number
            as_plain = [
                [re.sub(r"^(-?\d+),(\d+)", r"\1.\2", field) for field in row] for row in rows
            ]
            assert as_plain == plain[name]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--min-area", "-1"], "'-1' is below 0"),
        (["--min-area", "1.5"], "'1.5' is no whole number"),
        (["--mm-per-pixel", "0"], "'0' is not above 0"),
        (["--mm-per-pixel", "0,1"], "write 0.1"),
    ],
)
def test_bad_options(inspect, tmp_path, more, message):
    assert message in inspect(*more).error
    assert files_in(tmp_path) == set()


def test_the_coco_file_is_json_of_text_alone(tmp_path):
    """Names of files may hold bytes that are no text."""
    gathered = coco.Coco(tmp_path)
    gathered.add(str(tmp_path / "ä\udcff.png"), np.zeros((4, 5)), 1.0)
    gathered.write(tmp_path / "defects.json")
    (image,) = json.loads((tmp_path / "defects.json").read_text(encoding="utf-8"))["images"]
    assert image == {"id": 1, "file_name": "ä\udcff.png", "width": 5, "height": 4}
