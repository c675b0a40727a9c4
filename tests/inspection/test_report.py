"""The report without a browser: what stands in the file, and when there is none."""

import base64
import hashlib
import io
import os
import re
import weakref
from datetime import datetime, timedelta

import numpy as np
import pytest
from inspection_reports import decode, fitted, pooled, read_report, stripes_with_spots
from PIL import Image
from skimage.measure import label, regionprops
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from sklearn_ssimae import L2AutoencoderDetector, ResidualThresholder, VAEDetector
from sklearn_ssimae._version import __version__
from sklearn_ssimae.inspection import write_report
from sklearn_ssimae.inspection._report.images import encode_picture
from sklearn_ssimae.inspection._report.regions import Box, find_regions, parts_to_keep

IMAGES, MASKS = stripes_with_spots(6)


@pytest.fixture(scope="module")
def detector():
    return fitted(IMAGES[::2])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "report.html"


def picture(text):
    with Image.open(io.BytesIO(base64.b64decode(text))) as file:
        return np.asarray(file) / 255


def facts_of(path):
    text = path.read_text(encoding="utf-8")
    facts = re.findall(r"<dt>([^<]*)</dt><dd>(?:<time[^>]*>)?([^<]+)<", text)
    return {name: value for name, value in facts}


@pytest.fixture
def files(tmp_path):
    """The first three images as files."""
    folder = tmp_path / "photos"
    folder.mkdir()
    paths = [folder / f"{index}.png" for index in range(3)]
    for path, image in zip(paths, IMAGES, strict=False):
        Image.fromarray(image).save(path)
    return paths


class TestExactness:
    @pytest.mark.parametrize("form", ["grey", "rows", "colour", "float64", "list"])
    def test_maps_are_cut_as_by_the_detector(self, path, form):
        X = {
            "grey": IMAGES,
            "rows": IMAGES.reshape(6, -1),
            "colour": np.repeat(IMAGES[..., None], 3, axis=-1),
            "float64": IMAGES / 255 + 1e-9,
            "list": [image[: 20 + index] for index, image in enumerate(IMAGES)],
        }[form]
        detector = fitted(X, **({"image_shape": (40, 48)} if form == "rows" else {}))
        write_report(path, detector, X)
        data, cards = read_report(path)
        assert data["threshold"] == detector.threshold_
        assert data["scores"] == (-detector.score_samples(X)).tolist()
        maps = detector.transform(X)
        for index, payload in cards:
            residual = maps[index].reshape(payload["shape"])
            assert payload["factor"] == 1
            codes = decode(payload["codes"], payload["grid"])
            for k, level in enumerate(data["levels"]):
                np.testing.assert_array_equal(codes > k, residual > np.float64(level))
            own = codes > data["levels"].index(detector.threshold_)
            expected = detector.segment(X)[index].reshape(payload["shape"])
            np.testing.assert_array_equal(own, expected)

    def test_logarithms(self, path):
        """A VAE's maps may be negative, and so its threshold."""
        detector = fitted(IMAGES, VAEDetector, threshold=-1e3)
        write_report(path, detector, IMAGES)
        data, cards = read_report(path)
        own = data["levels"].index(-1e3)
        for index, payload in cards:
            codes = decode(payload["codes"], payload["grid"])
            np.testing.assert_array_equal(codes > own, detector.segment(IMAGES)[index])

    def test_blocks_of_large_images(self, detector, path):
        """A block is a defect if one of its pixels is, also at the border."""
        images, masks = stripes_with_spots(2, (330, 641))
        write_report(path, detector, list(images), masks=list(masks))
        data, cards = read_report(path)
        maps = detector.transform(list(images))
        for index, payload in cards:
            assert payload["factor"] == 3
            assert payload["grid"] == [110, 214]
            codes = decode(payload["codes"], payload["grid"])
            for k in range(0, len(data["levels"]), 20):
                found = maps[index] > np.float64(data["levels"][k])
                np.testing.assert_array_equal(codes > k, pooled(found, 3))
            shown = decode(payload["mask"], payload["grid"])
            np.testing.assert_array_equal(shown, pooled(masks[index], 3))

    def test_pictures(self, detector, path):
        write_report(path, detector, IMAGES)
        redrawn = detector.reconstruct(IMAGES) / 255
        for index, payload in read_report(path)[1]:
            assert np.abs(picture(payload["photo"])[..., 0] - IMAGES[index] / 255).mean() < 0.03
            error = np.abs(picture(payload["reconstruction"])[..., 0] - redrawn[index])
            assert error.mean() < 0.02


class TestFile:
    def test_states_what_it_is_of(self, detector, path):
        write_report(path, detector, IMAGES, good=IMAGES[:2])
        facts = facts_of(path)
        assert datetime.now() - datetime.fromisoformat(facts.pop("Date")) < timedelta(hours=1)
        assert facts == {
            "Detector": "L2AutoencoderDetector",
            "Its threshold": f"{detector.threshold_:.4g}",
            "It rests on": detector.threshold_basis_,
            "Images inspected": "6",
            "Good images beside them": "2",
            "Made with": f"sklearn-ssimae {__version__}",
        }

    def test_states_files_and_folders(self, detector, files, path):
        file = path.with_name("a detector.skops")
        file.write_bytes(b"weights")
        write_report(path, detector, files, detector_file=file)
        facts = facts_of(path)
        assert facts["Folder"] == str(path.parent / "photos")
        assert facts["Its file"] == str(file)
        data = read_report(path)[0]
        assert data["detectorSha256"] == hashlib.sha256(b"weights").hexdigest()
        assert data["command"] == f"ssimae threshold '{file}'"

    def test_needs_no_network(self, detector, path):
        write_report(path, detector, IMAGES)
        text = path.read_text(encoding="utf-8")
        assert "default-src 'none'" in text
        assert not re.search(r"https?:|@import|url\(", text)

    def test_most_anomalous_first_and_all_counted(self, detector, path):
        write_report(path, detector, IMAGES, good=IMAGES[:3], max_images=2)
        data, cards = read_report(path)
        expected = np.argsort(detector.score_samples(IMAGES))[:2]
        assert [index for index, _ in cards] == expected.tolist()
        assert len(data["scores"]) == 6
        assert data["goodScores"] == data["scores"][:3]
        text = path.read_text(encoding="utf-8")
        assert "The 2 most anomalous images are shown; 4 with" in text
        write_report(path, detector, IMAGES)
        assert len(read_report(path)[1]) == 6
        assert "most anomalous images are shown" not in path.read_text(encoding="utf-8")

    @pytest.mark.parametrize("form", ["masks", "labels"])
    def test_truth(self, detector, path, form):
        labels = np.where(MASKS.any(axis=(1, 2)), -1, 1)
        write_report(path, detector, IMAGES, masks=MASKS if form == "masks" else labels)
        data, cards = read_report(path)
        assert data["defective"] == (labels == -1).tolist()
        for index, payload in cards:
            if form == "labels":
                assert payload["mask"] is None
            else:
                shown = decode(payload["mask"], payload["grid"])
                np.testing.assert_array_equal(shown, MASKS[index])
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"<p>(.*?) <small>\((\d+)\)", text) == [
            ("inspected, truly good", "3"),
            ("inspected, truly defective", "3"),
        ]

    def test_names(self, detector, tmp_path, path):
        names = ["a/0.png", "b/0.png", "b/<b onclick=alert(1)>&'\".png"]
        for name, image in zip(names, IMAGES, strict=False):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / name)
        write_report(path, detector, [tmp_path / name for name in names])
        text = path.read_text(encoding="utf-8")
        titles = re.findall(r'<h2 title="([^"]*)">', text)
        escaped = "b/&lt;b onclick=alert(1)&gt;&amp;&#39;&#34;.png"
        assert set(titles) == {"a/0.png", "b/0.png", escaped}
        assert "<b onclick" not in text

    def test_names_of_other_bytes(self, detector, tmp_path, path):
        name = os.fsdecode(b"\xff.png")
        Image.fromarray(IMAGES[0]).save(tmp_path / "0.png")
        os.rename(tmp_path / "0.png", tmp_path / name)
        write_report(path, detector, [str(tmp_path / name)])
        assert '<h2 title="?.png">' in path.read_text(encoding="utf-8")

    def test_sixty_kilobytes_an_image(self, path):
        """Of noise, which nothing compresses."""
        noise = np.random.default_rng(0).integers(0, 256, (2, 300, 300, 3), dtype=np.uint8)
        detector = fitted(noise, smoothing=0.0, opening_diameter=None, threshold=0.0)
        write_report(path, detector, noise)
        _, cards = read_report(path)
        assert {payload["factor"] for _, payload in cards} == {2}
        parts = [len(card) for card in path.read_text(encoding="utf-8").split("<article ")[1:]]
        assert 30_000 < parts[0] <= 60_000

    def test_pictures_of_any_size(self):
        noise = np.random.default_rng(0).random((3, 2000))
        assert len(base64.b64decode(encode_picture(noise, 300))) <= 300
        assert picture(encode_picture(noise[:1, :1], 1)).shape[:2] == (1, 1)


class TestVerdicts:
    """What the page needs so that verdicts can be checked later."""

    def test_images_are_known_by_their_bytes(self, detector, files, path):
        write_report(path, detector, files)
        for index, payload in read_report(path)[1]:
            content = files[index].read_bytes()
            assert payload["path"] == str(files[index])
            assert payload["bytes"] == len(content)
            assert payload["sha256"] == hashlib.sha256(content).hexdigest()

    def test_arrays_are_known_by_their_values(self, detector, path):
        write_report(path, detector, IMAGES)
        for index, payload in read_report(path)[1]:
            assert payload["path"] is None
            assert payload["bytes"] is None
            assert payload["sha256"] == hashlib.sha256(IMAGES[index].tobytes()).hexdigest()

    def test_the_same_report_keeps_its_name(self, detector, files, path):
        """And so the verdicts that a browser keeps under it."""
        write_report(path, detector, files)
        name = read_report(path)[0]["id"]
        write_report(path, detector, files)
        assert read_report(path)[0]["id"] == name
        write_report(path, detector, files[:2])
        assert read_report(path)[0]["id"] != name

    def test_located(self, detector, path):
        """By the largest residual on the true defect, at whatever threshold."""
        write_report(path, detector, IMAGES, masks=MASKS)
        data = read_report(path)[0]
        maps = detector.transform(IMAGES)
        assert data["onDefect"] == [
            float(residual[mask].max()) if mask.any() else None
            for residual, mask in zip(maps, MASKS, strict=True)
        ]
        write_report(path, detector, IMAGES, masks=np.where(MASKS.any(axis=(1, 2)), -1, 1))
        assert read_report(path)[0]["onDefect"] is None

    def test_regions_are_those_of_the_detector(self, detector, path):
        write_report(path, detector, IMAGES)
        masks, maps = detector.segment(IMAGES), detector.transform(IMAGES)
        cards = read_report(path)[1]
        assert any(payload["nRegions"] for _, payload in cards)
        for index, payload in cards:
            labels = label(masks[index], connectivity=2)
            expected = [
                [left, top, right - left, bottom - top, int(region.area), region.intensity_max]
                for region in regionprops(labels, maps[index])
                for top, left, bottom, right in [region.bbox]
            ]
            assert payload["nRegions"] == len(expected)
            assert payload["regions"] == sorted(expected, key=lambda row: -row[-1])[:12]


class TestCrops:
    """Parts that are kept at their own scale."""

    def test_of_a_long_photograph(self, path):
        """A fault of a few pixels is seen as it is, though the photograph is reduced."""
        rng = np.random.default_rng(0)
        image = rng.integers(100, 150, (64, 1536), dtype=np.uint8)
        mask = np.zeros(image.shape, dtype=bool)
        image[20:28, 1200:1208] = 255
        mask[20:28, 1200:1208] = True
        detector = fitted([image[:, :64]], threshold=1e9)
        write_report(path, detector, [image], masks=[mask])
        ((_, payload),) = read_report(path)[1]
        assert picture(payload["photo"]).shape[1] == 640
        ((x, y, width, height, crop),) = payload["crops"]
        assert (x, y, width, height) == (1124, 0, 160, 64)
        shown = picture(crop)[..., 0]
        assert shown.shape == (height, width)
        assert np.abs(shown - image[y : y + height, x : x + width] / 255).mean() < 0.05

    def test_none_of_what_the_photograph_shows(self, detector, path):
        write_report(path, detector, IMAGES)
        assert all(payload["crops"] == [] for _, payload in read_report(path)[1])

    def test_around_the_largest_value_if_nothing_is_marked(self):
        residual = np.zeros((1000, 2000))
        residual[990, 3] = 1
        assert parts_to_keep(residual, [], None) == [Box(0, 840, 160, 160)]

    def test_parts_hold_regions_and_defects(self):
        residual = np.zeros((600, 3000))
        residual[100:104, 200:1500] = 2
        residual[110:114, 210:220] = 3
        residual[500:510, 2000:2010] = 1
        mask = np.zeros(residual.shape, dtype=bool)
        mask[300:310, 2500:2510] = True
        regions = find_regions(residual, 0.5)
        assert [region.peak for region in regions] == [3, 2, 1]
        parts = parts_to_keep(residual, regions, mask)
        assert len(parts) <= 8
        assert all(max(part.width, part.height) <= 512 for part in parts)
        kept = np.zeros(residual.shape, dtype=bool)
        for part in parts:
            kept[part.slices] = True
        assert kept[residual > 0.5].all()
        assert kept[mask].all()


class StoredImages:
    """An array that is not in memory, which knows how many of its images are."""

    chunks = (1, 40, 48)
    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, n):
        self.shape = (n, 40, 48)
        self._alive = weakref.WeakValueDictionary()
        self.n_alive_at_most = 0

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        image = IMAGES[index % 6] ^ np.uint8(index)
        self._alive[len(self._alive), index] = image
        self.n_alive_at_most = max(self.n_alive_at_most, len(self._alive))
        return image


def test_images_are_not_kept(detector, path):
    images = StoredImages(100)
    write_report(path, detector, images, max_images=3)
    assert len(read_report(path)[0]["scores"]) == 100
    assert images.n_alive_at_most < 12


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"images": []}, ValueError, "images is empty"),
            ({"images": IMAGES[:0]}, ValueError, "images is empty"),
            ({"images": "0.png"}, ValueError, "X is one path"),
            ({"good": []}, ValueError, "good is empty"),
            ({"masks": MASKS[:2]}, ValueError, "There are 2 masks for 6 images"),
            ({"masks": [1, -1]}, ValueError, "There are 2 masks for 6 images"),
            ({"masks": 1}, ValueError, r"masks has the shape \(\)"),
            ({"masks": MASKS.reshape(6, -1)}, ValueError, r"masks has the shape \(6, 1920\)"),
            ({"masks": MASKS[:, 1:]}, ValueError, r"masks\[0\] has the shape \(39, 48\)"),
            ({"detector_file": "gone.skops"}, FileNotFoundError, "gone.skops"),
            ({"masks": MASKS * 255}, ValueError, r"masks\[1\] is no binary mask"),
            ({"max_images": 0}, ValueError, "max_images must be an integer of at least 1, got 0"),
            ({"max_images": 2.5}, ValueError, "max_images must be an integer of at least 1"),
            ({"detector": L2AutoencoderDetector()}, NotFittedError, "not fitted"),
            ({"detector": make_pipeline(ResidualThresholder())}, TypeError, "got Pipeline"),
        ],
    )
    def test_arguments(self, detector, path, arguments, error, message):
        path.write_text("of yesterday")
        given = {"detector": detector, "images": IMAGES, **arguments}
        with pytest.raises(error, match=message):
            write_report(path, **given)
        assert path.read_text() == "of yesterday"
        assert list(path.parent.iterdir()) == [path]

    def test_folders(self, detector, tmp_path):
        with pytest.raises(IsADirectoryError, match="is a folder"):
            write_report(tmp_path, detector, IMAGES)
        with pytest.raises(FileNotFoundError, match=r"There is no folder '.*missing'"):
            write_report(tmp_path / "missing" / "report.html", detector, IMAGES)
        (tmp_path / "file").touch()
        with pytest.raises(FileNotFoundError, match=r"There is no folder '.*file'"):
            write_report(tmp_path / "file" / "report.html", detector, IMAGES)

    def test_folder_that_cannot_be_written(self, detector, path, monkeypatch):
        """Known before an image is read."""

        def refuse(self, **_):
            raise PermissionError(13, "Permission denied", str(self))

        # The superuser may write everywhere.
        monkeypatch.setattr("pathlib.Path.touch", refuse)
        monkeypatch.setattr(detector, "_map_maker", pytest.fail)
        with pytest.raises(PermissionError, match=r"cannot be written \(Permission denied\)"):
            write_report(path, detector, IMAGES)

    def test_damaged_image(self, detector, tmp_path):
        paths = [tmp_path / f"{index}.png" for index in range(3)]
        for path, image in zip(paths, IMAGES, strict=False):
            Image.fromarray(image).save(path)
        paths[2].write_bytes(paths[2].read_bytes()[:200])
        with pytest.raises(OSError, match=r"2.png is not a readable image"):
            write_report(tmp_path / "report.html", detector, paths)
        assert not (tmp_path / "report.html").exists()

    def test_nothing_half_written(self, detector, path, monkeypatch):
        """An error, or Ctrl-C, while the file is being written."""

        def interrupt(*_, **__):
            assert [entry.suffix for entry in path.parent.iterdir()] == [".tmp"]
            raise KeyboardInterrupt

        monkeypatch.setattr("sklearn_ssimae.inspection._report.report.rows_of", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_report(path, detector, IMAGES)
        assert not list(path.parent.iterdir())


# Pixels that do not count -------------------------------------------------------------


def test_what_lies_outside_the_region_is_darkened(path):
    region = np.zeros(IMAGES.shape[1:], dtype=bool)
    region[:, 16:] = True
    detector = fitted(IMAGES[::2], region=region)
    write_report(path, detector, IMAGES[:1])
    _, [(_, card)] = read_report(path)
    photo, given = picture(card["photo"])[..., 0], IMAGES[0] / 255
    assert photo[:, :14].mean() == pytest.approx(given[:, :14].mean() / 2, rel=0.03)
    assert photo[:, 18:].mean() == pytest.approx(given[:, 18:].mean(), rel=0.03)
    share = "66.7 % of the image; the rest does not count and is darkened"
    assert " ".join(facts_of(path)["Region"].split()) == share


def test_transparent_pixels_are_darkened(path, detector, tmp_path):
    file = tmp_path / "image.png"
    alpha = np.full(IMAGES.shape[1:], 255, np.uint8)
    alpha[:, :16] = 0
    Image.fromarray(np.dstack([IMAGES[0]] * 3 + [alpha]), "RGBA").convert("LA").save(file)
    write_report(path, detector, [str(file)])
    _, [(_, card)] = read_report(path)
    photo = picture(card["photo"])[..., 0]
    assert photo[:, :14].mean() == pytest.approx(IMAGES[0, :, :14].mean() / 255 / 2, rel=0.05)
    facts = facts_of(path)
    assert facts["Transparent pixels"] == "do not count and are darkened"
    assert "Region" not in facts


def test_all_pixels_count(path, detector):
    write_report(path, detector, IMAGES[:1])
    assert not {"Region", "Transparent pixels"} & facts_of(path).keys()
