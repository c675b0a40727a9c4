"""The report without a browser: what stands in the file, and when there is none."""

import base64
import io
import os
import re
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from inspection_reports import decode, fitted, pooled, read_report, stripes_with_spots
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from sklearn_ssimae import L2AutoencoderDetector, ResidualThresholder, VAEDetector
from sklearn_ssimae._version import __version__
from sklearn_ssimae.inspection import write_report
from sklearn_ssimae.inspection._report.images import encode_picture
from sklearn_ssimae.inspection._report.scale import make_scale

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


class TestScale:
    SCORES = arrays(
        np.float64,
        st.integers(1, 60),
        elements=st.floats(-1e6, 1e6, allow_subnormal=False),
    )

    @given(SCORES, st.floats(-1e6, 1e6, allow_subnormal=False))
    def test_any_scores(self, scores, threshold):
        low, high, levels = scale = make_scale(scores, threshold)
        assert low < high
        assert len(levels) <= 254
        assert (np.diff(levels) > 0).all()
        assert threshold in levels
        assert levels[0] <= scores.min()
        assert levels[-1] >= scores.max()
        assert sum(scale.histogram(scores)) == len(scores)
        assert all(0 <= scale.position(value) <= 1 for value in [*scores, *scale.ticks()])
        # A level tells each two neighbours apart.
        ordered = np.unique(scores)
        assert (np.diff(np.searchsorted(levels, ordered)) > 0).all()

    def test_round_numbers(self):
        levels = make_scale(np.array([0.2, 0.8]), 0.5).levels
        assert {0.3, 0.5, 0.7} <= set(levels)
        assert max(len(str(level)) for level in levels.tolist()) <= 5

    def test_extreme_scores_do_not_set_the_scale(self):
        scores = np.append(np.linspace(1, 2, 100), 1e6)
        scale = make_scale(scores, 1.9)
        assert 2 <= scale.high < 10
        assert scale.levels[-1] == 1e6
        assert scale.histogram(scores)[-1] == 1

    def test_many_scores(self):
        scale = make_scale(np.random.default_rng(0).normal(size=5000), 1.0)
        assert len(scale.levels) <= 254


class TestFile:
    def test_states_what_it_is_of(self, detector, path):
        write_report(path, detector, IMAGES, good=IMAGES[:2])
        text = path.read_text(encoding="utf-8")
        facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]+)</dd>", text))
        assert facts == {
            "Detector": "L2AutoencoderDetector",
            "Its threshold": f"{detector.threshold_:.4g}",
            "Images inspected": "6",
            "Good images beside them": "2",
            "Made with": f"sklearn-ssimae {__version__}",
        }

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
        assert str(tmp_path) not in text

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

        def refuse(self):
            raise PermissionError(13, "Permission denied", str(self))

        # The superuser may write everywhere.
        monkeypatch.setattr("pathlib.Path.touch", refuse)
        monkeypatch.setattr(detector, "_maps", pytest.fail)
        with pytest.raises(PermissionError, match=r"cannot be written \(Permission denied\)"):
            write_report(path, detector, IMAGES)

    def test_damaged_image(self, detector, tmp_path):
        paths = [tmp_path / f"{index}.png" for index in range(3)]
        for path, image in zip(paths, IMAGES, strict=False):
            Image.fromarray(image).save(path)
        paths[2].write_bytes(paths[2].read_bytes()[:200])
        with pytest.raises(OSError, match=r"2\.png is not a readable image"):
            write_report(tmp_path / "report.html", detector, paths)
        assert not (tmp_path / "report.html").exists()

    def test_nothing_half_written(self, detector, path, monkeypatch):
        """An error, or Ctrl-C, while the file is being written."""

        def interrupt(images):
            assert [entry.suffix for entry in path.parent.iterdir()] == [".tmp"]
            raise KeyboardInterrupt

        monkeypatch.setattr(detector, "reconstruct", interrupt, raising=False)
        with pytest.raises(KeyboardInterrupt):
            write_report(path, detector, IMAGES)
        assert not list(path.parent.iterdir())
