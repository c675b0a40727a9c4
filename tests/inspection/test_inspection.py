"""The displays: what they compute, and what stands in the pictures."""

import builtins
import importlib
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from shared import cheap
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import auc, roc_curve
from sklearn.pipeline import make_pipeline

import sklearn_ssimae
from sklearn_ssimae import ResidualThresholder, ssim_components, ssim_map
from sklearn_ssimae.inspection import (
    PixelCurveDisplay,
    ResidualMapDisplay,
    SSIMComponentsDisplay,
    _plotting,
)
from sklearn_ssimae.metrics import pixel_roc_auc_score, pro_auc_score


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 20, 24), dtype=np.uint8)


@pytest.fixture
def masks():
    masks = np.zeros((3, 20, 24), dtype=bool)
    masks[1, 5:10, 8:12] = masks[2, 15:, 20:] = True
    return masks


def fitted(X, **parameters):
    detector = cheap(max_iter=1, **parameters)
    with pytest.warns(ConvergenceWarning):
        return detector.fit(X)


def pixels(ax, layer=0):
    return np.asarray(ax.images[layer].get_array())


def outlines(ax):
    """Styles and vertices of the outlines in a picture, halos left out."""
    return [c for c in ax.collections if c.get_edgecolor()[0, :3].tolist() != [1, 1, 1]]


class TestResidualMapDisplay:
    def test_shows_what_the_detector_returns(self, images, masks):
        detector = fitted(images, threshold=0.1)
        display = ResidualMapDisplay.from_estimator(detector, images, masks)
        maps, reconstructions = detector.transform(images), detector.reconstruct(images)
        assert display.axes_.shape == (3, 4)
        assert display.threshold == 0.1
        for i, row in enumerate(display.axes_):
            np.testing.assert_allclose(pixels(row[0]), images[i] / 255)
            np.testing.assert_allclose(
                pixels(row[1]), (reconstructions[i] / 255).clip(0, 1), atol=1e-6
            )
            np.testing.assert_array_equal(pixels(row[2]), maps[i])
            found = pixels(row[3], layer=1)[..., 3] > 0
            np.testing.assert_array_equal(found, detector.segment(images)[i])

    def test_what_does_not_count_is_darkened(self, images, tmp_path):
        """Outside the region and, of files, where they are transparent; the map is 0 there."""
        region = np.ones((20, 24), dtype=bool)
        region[:4] = False
        alpha = np.full((20, 24), 255, np.uint8)
        alpha[:, 20:] = 0
        paths = [tmp_path / "clear.png", tmp_path / "whole.png"]
        Image.fromarray(np.dstack([images[0], alpha]), "LA").save(paths[0])
        Image.fromarray(images[1]).save(paths[1])
        detector = fitted(images, region=region)
        display = ResidualMapDisplay.from_estimator(detector, paths)
        np.testing.assert_array_equal(display.counts, [region & (alpha > 0), region])
        for index, counts in enumerate(display.counts):
            light = np.where(counts, 1, 0.5)
            row = display.axes_[index]
            np.testing.assert_allclose(pixels(row[0]), images[index] / 255 * light)
            np.testing.assert_array_equal(pixels(row[2]), detector.transform(paths)[index])
            assert not pixels(row[2])[~counts].any()

    def test_one_colour_scale(self, images):
        detector = fitted(images)
        display = ResidualMapDisplay.from_estimator(detector, images)
        norms = {row[2].images[0].norm for row in display.axes_}
        assert norms == {display.colorbar_.mappable.norm}
        (norm,) = norms
        assert norm.vmin == 0
        assert norm.vmax > detector.threshold_

    @pytest.mark.parametrize("form", ["rows", "colour", "five channels", "list"])
    def test_forms_of_images(self, images, form):
        X = {
            "rows": images.reshape(3, -1),
            "colour": np.repeat(images[..., None], 3, axis=-1),
            "five channels": np.repeat(images[..., None], 5, axis=-1),
            "list": [images[0], images[1][:, :16], images[2]],
        }[form]
        detector = fitted(X, **({"image_shape": (20, 24)} if form == "rows" else {}))
        display = ResidualMapDisplay.from_estimator(detector, X)
        shape = (20, 16) if form == "list" else (20, 24)
        assert pixels(display.axes_[1, 2]).shape == shape
        expected = (*shape, 3) if form == "colour" else shape
        assert pixels(display.axes_[1, 0]).shape == expected

    def test_outlines(self, masks):
        maps = np.where(masks, 0.8, 0.2)
        maps[1, 0, 0] = 0.8
        display = ResidualMapDisplay(
            images=maps,
            reconstructions=maps,
            maps=maps,
            threshold=0.5,
            data_range=(0, 1),
            masks=masks,
        ).plot()
        # Nothing is found and nothing is there in the first image.
        assert not display.axes_[0, 2].collections
        assert not display.axes_[0, 3].collections
        (on_map,) = outlines(display.axes_[1, 2])
        found, true = outlines(display.axes_[1, 3])
        assert found.get_linestyle() != true.get_linestyle()
        for outline in (on_map, found):
            np.testing.assert_allclose(outline.get_paths()[0].get_extents().min, -0.5)
        box = true.get_paths()[0].get_extents()
        np.testing.assert_allclose((box.min, box.max), ((7.5, 4.5), (11.5, 9.5)))
        # A defect at the border has an outline all round.
        corner = outlines(display.axes_[2, 3])[1].get_paths()[0].vertices
        np.testing.assert_allclose(corner[0], corner[-1])
        labels = [text.get_text() for text in display.axes_[-1, 3].get_legend().get_texts()]
        assert labels == ["found", "true"]

    def test_extreme_values_do_not_set_the_scale(self):
        maps = np.zeros((1, 100, 100))
        maps[0, :50] = 1
        maps[0, 99, 99] = 1000
        parts = {"images": maps, "reconstructions": maps, "maps": maps, "data_range": (0, 1)}
        display = ResidualMapDisplay(**parts, threshold=0.5).plot()
        assert display.colorbar_.norm.vmax == 1
        assert display.colorbar_.extend == "max"

    def test_negative_maps(self):
        """A VAE's are logarithms."""
        maps = np.linspace(-3, -1, 64).reshape(1, 8, 8)
        parts = {"images": maps, "reconstructions": maps, "maps": maps, "data_range": (-3, -1)}
        norm = ResidualMapDisplay(**parts, threshold=-2).plot().colorbar_.norm
        assert norm.vmin == -3
        assert norm.vmax == pytest.approx(-1, abs=0.05)

    def test_constant_maps(self):
        maps = np.zeros((1, 8, 8))
        parts = {"images": maps, "reconstructions": maps, "maps": maps, "data_range": (0, 1)}
        norm = ResidualMapDisplay(**parts, threshold=0.0).plot().colorbar_.norm
        assert norm.vmin < norm.vmax

    def test_axes_of_the_user(self, images):
        detector = fitted(images)
        figure, axes = plt.subplots(3, 4)
        display = ResidualMapDisplay.from_estimator(detector, images, ax=axes)
        assert display.figure_ is figure
        assert (display.axes_ == axes).all()
        figure, (left, right) = plt.subplots(1, 2)
        display.plot(ax=left)
        assert display.figure_ is figure
        assert display.axes_.shape == (3, 4)
        assert right in figure.axes
        assert left not in figure.axes
        with pytest.raises(ValueError, match=r"ax has the shape \(2,\); 3 rows of 4 pictures"):
            display.plot(ax=plt.subplots(1, 2)[1])
        with pytest.raises(ValueError, match="ax is no cell of a grid"):
            display.plot(ax=plt.figure().add_axes((0, 0, 1, 1)))

    def test_refuses_masks_that_do_not_fit(self, images, masks):
        detector = fitted(images)
        with pytest.raises(ValueError, match="2 masks for 3 images"):
            ResidualMapDisplay.from_estimator(detector, images, masks[:2])
        with pytest.raises(ValueError, match=r"masks\[0\] has the shape \(20, 23\)"):
            ResidualMapDisplay.from_estimator(detector, images, masks[:, :, 1:])

    def test_refuses_other_estimators(self, images):
        pipeline = make_pipeline(fitted(images), ResidualThresholder(threshold=0.1))
        with pytest.raises(TypeError, match="got Pipeline"):
            ResidualMapDisplay.from_estimator(pipeline, images)


class TestSSIMComponentsDisplay:
    @pytest.mark.parametrize("parameters", [{}, {"window_size": 5, "c1": 0.01, "gamma": 2.0}])
    def test_shows_the_components(self, parameters):
        x, y = np.random.default_rng(0).random((2, 2, 16, 20))
        display = SSIMComponentsDisplay.from_images(x, y, **parameters)
        expected = [x, y, (x - y) ** 2, *ssim_components(x, y, **parameters)]
        expected.append(ssim_map(x, y, **parameters))
        assert display.axes_.shape == (2, 7)
        for row in range(2):
            for ax, values in zip(display.axes_[row], expected, strict=True):
                np.testing.assert_allclose(pixels(ax), values[row], atol=1e-6)

    def test_one_colour_scale_for_the_factors(self):
        x = np.random.default_rng(0).random((16, 20))
        display = SSIMComponentsDisplay.from_images(x, 1 - x)
        assert display.axes_.shape == (1, 7)
        assert {ax.images[0].get_clim() for ax in display.axes_[0, 3:]} == {(-1, 1)}
        display = SSIMComponentsDisplay.from_images(x, x)
        assert {ax.images[0].get_clim() for ax in display.axes_[0, 3:]} == {(0, 1)}

    def test_refuses_colour(self):
        with pytest.raises(ValueError, match=r"\(1, 8, 8, 3\).*one channel at a time"):
            SSIMComponentsDisplay.from_images(*np.zeros((2, 1, 8, 8, 3)))


class TestPixelCurveDisplay:
    def test_roc(self, masks):
        maps = np.random.default_rng(0).random(masks.shape) + 0.5 * masks
        display = PixelCurveDisplay.from_predictions(masks, maps, name="mine")
        curve = roc_curve(masks.ravel(), maps.ravel(), drop_intermediate=False)[:2]
        assert display.area == pixel_roc_auc_score(masks, maps)
        drawn = zip(display.fpr, display.rate, strict=True)
        assert set(drawn) < set(zip(*curve, strict=True))
        assert auc(display.fpr, display.rate) == pytest.approx(display.area, abs=1e-3)
        assert display.line_.get_label() == f"mine (AUC = {display.area:.3f})"
        np.testing.assert_array_equal(display.line_.get_xdata(), display.fpr)

    def test_pro(self, masks):
        masks[1, 0, 0] = True  # a region of one pixel
        maps = masks.astype(float)
        maps[1, 0, 0] = 0
        display = PixelCurveDisplay.from_predictions(masks, maps, curve="pro", max_fpr=0.2)
        assert display.area == pro_auc_score(masks, maps, max_fpr=0.2)
        # Two of three regions at once, and the last with all the good pixels.
        np.testing.assert_allclose(display.fpr, [0, 0, 1])
        np.testing.assert_allclose(display.rate, [0, 2 / 3, 1])
        assert display.ax_.get_xlim()[1] == pytest.approx(0.2, rel=0.02)
        assert display.line_.get_label() == f"PRO to 0.2 = {display.area:.3f}"

    def test_few_points(self):
        rng = np.random.default_rng(0)
        masks = rng.random((10, 100, 100)) < 0.3
        maps = rng.random(masks.shape) + masks
        display = PixelCurveDisplay.from_predictions(masks, maps)
        assert len(display.fpr) < 2100
        assert auc(display.fpr, display.rate) == pytest.approx(display.area, abs=1e-3)
        assert (display.fpr[-1], display.rate[-1]) == (1, 1)

    def test_more_pixels_than_are_exact(self, masks, monkeypatch):
        metrics = importlib.import_module("sklearn_ssimae.metrics")
        maps = np.random.default_rng(0).random(masks.shape) + masks
        exact = PixelCurveDisplay.from_predictions(masks, maps)
        monkeypatch.setattr(metrics, "MAX_EXACT_PIXELS", 10)
        binned = PixelCurveDisplay.from_predictions(masks, maps)
        assert binned.area == pytest.approx(exact.area)

    def test_of_an_estimator(self, images, masks):
        detector = fitted(images)
        _, ax = plt.subplots()
        display = PixelCurveDisplay.from_estimator(
            detector, images, masks, ax=ax, plot_chance_level=True, color="red"
        )
        assert display.area == detector.score(images, masks)
        assert display.ax_ is ax
        assert display.figure_ is ax.figure
        assert display.name == "L2AutoencoderDetector"
        assert display.line_.get_color() == "red"
        np.testing.assert_array_equal(display.chance_level_.get_ydata(), [0, 1])
        again = display.plot(ax=ax, name="other")
        assert again.line_.get_label().startswith("other (")
        assert again.chance_level_ is None

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"curve": "det"}, "curve must be 'roc' or 'pro', got 'det'"),
            ({"max_fpr": 0.3}, "max_fpr is for curve='pro'; with curve='roc' got 0.3"),
            ({"curve": "pro", "max_fpr": 0}, r"max_fpr must be a number in \(0, 1\], got 0"),
        ],
    )
    def test_refuses_parameters(self, masks, parameters, message):
        with pytest.raises(ValueError, match=message):
            PixelCurveDisplay.from_predictions(masks, masks * 1.0, **parameters)

    def test_refuses_one_class(self, masks):
        with pytest.raises(ValueError, match="the masks hold 0 and 1440"):
            PixelCurveDisplay.from_predictions(masks & False, masks * 1.0)


@pytest.fixture
def without_matplotlib(monkeypatch):
    """As on a machine where matplotlib is not installed."""
    true_import = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return true_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.usefixtures("without_matplotlib")
class TestWithoutMatplotlib:
    def test_import(self, monkeypatch):
        # Importing it again sets the package's attribute: what other tests use comes back after.
        monkeypatch.setattr(sklearn_ssimae, "inspection", sklearn_ssimae.inspection)
        for name in [name for name in sys.modules if name.startswith("sklearn_ssimae.inspection")]:
            monkeypatch.delitem(sys.modules, name)
        assert importlib.import_module("sklearn_ssimae.inspection").__all__

    @pytest.mark.parametrize(
        "draw",
        [
            lambda: ResidualMapDisplay.from_estimator(None, None),
            lambda: SSIMComponentsDisplay.from_images(None, None),
            lambda: PixelCurveDisplay.from_predictions(None, None),
            lambda: PixelCurveDisplay.from_estimator(None, None, None),
        ],
    )
    def test_says_what_to_install(self, draw):
        with pytest.raises(ImportError, match=r'pip install matplotlib.*-e "\.\[plot\]"'):
            draw()


def test_thinned_keeps_the_ends():
    fpr = rate = np.linspace(0, 1, 100_000)
    few, _ = _plotting.thinned(fpr, rate)
    assert few[0] == 0
    assert few[-1] == 1
    assert np.diff(few).max() <= 1e-3
