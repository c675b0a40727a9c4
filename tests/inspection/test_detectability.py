"""Which sizes of drawn defects a detector finds."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage
from shared import cheap, texture

from sklearn_ssimae._images.collection import stack_of_images
from sklearn_ssimae.inspection import DetectabilityDisplay, _detectability, detectability
from sklearn_ssimae.inspection._drawn import KINDS, Drawer

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def few(monkeypatch):
    """Fewer defects."""
    monkeypatch.setattr(_detectability, "_DRAWN", 60)


class Ideal:
    """Finds what covers more than 10 x 10 pixels, and calls another corner defective anyway."""

    scale = 1.0
    threshold_ = 0.5
    network_ = SimpleNamespace(config={"patch_size": 64})
    _trained_digests = np.zeros(0, np.uint64)
    n_looked_at = 0

    def __init__(self, good):
        self.good = good[0][..., None]

    def _check_fitted_input(self, X):
        return stack_of_images(X)[0]

    def _check_threshold(self):
        pass

    def _preparation(self):
        return SimpleNamespace(range_of=lambda image, name: (0.0, 1.0))

    def _maps(self, images):
        for image in images:
            self.n_looked_at += 1
            changed = ndimage.binary_closing(np.abs(image - self.good).max(axis=-1) > 0.01)
            labels, n = ndimage.label(changed, np.ones((3, 3)))
            areas = ndimage.sum_labels(changed, labels, np.arange(n + 1))
            residual = (areas > 100)[labels].astype(float)
            residual[:3, :3] = 1
            yield residual

    def _maps_and_values(self, images):
        for image, residual in zip(images, self._maps(images), strict=True):
            yield SimpleNamespace(image=image, counts=None).__dict__.values(), residual, None


@pytest.fixture(scope="module")
def ideal():
    good = np.tile(texture(1, 256, 256), (3, 1, 1))
    detector = Ideal(good)
    trials = _detectability.Trials(detector, good, random_state=0)
    assert list(trials) == [1, 2, 3]
    return trials, detector


def test_a_known_detector(ideal):
    trials, _ = ideal
    found = trials.found()
    assert list(found) == list(KINDS)
    for kind in ("lump", "stain", "grain"):
        curve = found[kind]
        assert len(curve.sizes) > 80
        assert 9 < curve.a50 <= curve.a90 <= curve.a90_95 < 14
        assert ((curve.sizes > 10) == curve.hits).mean() > 0.9
    assert trials.n_images == trials.n_marked == 3
    assert 0.05 < found["stain"].contrasts.mean() < 0.5
    assert found["stain"].faded.contrasts.mean() < 0.7 * found["stain"].contrasts.mean()
    assert len(found["lump"].faded.sizes) == 0 < len(found["dent"].faded.sizes)


def test_millimetres(ideal):
    trials, _ = ideal
    pixels, mm = trials.found()["lump"], trials.found(0.05)["lump"]
    np.testing.assert_allclose(mm.sizes, 0.05 * pixels.sizes)
    np.testing.assert_allclose(mm.a90_95, 0.05 * pixels.a90_95, rtol=0.02)
    with pytest.raises(ValueError, match="mm_per_pixel must be a number above 0"):
        trials.found(0)


def test_an_image_holds_several_defects(ideal):
    _, detector = ideal
    assert detector.n_looked_at < 3 + _detectability._DRAWN / 4 + 3


def test_defects_of_a_drawer_lie_apart_and_alter_their_masks_alone():
    canvas = texture(1, 260, 390)[0][..., None]
    counts = np.ones(canvas.shape[:2], dtype=bool)
    counts[:, :100] = False
    altered, drawn = Drawer(64, np.random.RandomState(0))(canvas, counts)
    assert 3 <= len(drawn) <= 6
    masks = np.zeros((len(drawn), *counts.shape), dtype=bool)
    for mask, defect in zip(masks, drawn, strict=True):
        mask[defect.box] = defect.mask
        assert defect.size == pytest.approx(mask.sum() ** 0.5)
    assert masks.sum(axis=0).max() == 1 and not masks[:, ~counts].any()
    assert_array_equal((altered != canvas).any(axis=-1) & ~masks.any(axis=0), False)


def test_flat_material(few):
    good = np.full((2, 128, 128), 0.5)
    found = _detectability.Trials(Ideal(good), good, random_state=0)
    list(found)
    found = found.found()
    assert len(found["blur"].sizes) == len(found["patch"].sizes) == 0 < len(found["lump"].sizes)
    assert np.isnan(found["blur"].a50)
    display = DetectabilityDisplay(found=found).plot()
    titles = [ax.get_title() for ax in display.axes_]
    assert "patch: not drawn" in titles and titles[8:] == ["stain by contrast", "dent by contrast"]


@pytest.fixture(scope="module")
def detector():
    return cheap(threshold=0.5).fit(texture(6, 40, 48))


def test_a_detector(detector, few):
    good = texture(9, 40, 48)[6:]
    found = detectability(detector, good, random_state=0)
    again = detectability(detector, good, random_state=0)
    assert sum(len(curve.sizes) for curve in found.values()) > 30
    for kind in KINDS:
        assert_array_equal(found[kind].sizes, again[kind].sizes)
        assert_array_equal(found[kind].hits, again[kind].hits)


def test_integers_stay_integers(few, monkeypatch):
    images = np.rint(255 * texture(9, 40, 48)).astype(np.uint8)
    detector = cheap(threshold=0.5).fit(images[:6])
    seen, maps = [], type(detector)._maps
    monkeypatch.setattr(
        type(detector),
        "_maps",
        lambda self, images, maker=None: seen.extend(images) or maps(self, images, maker),
    )
    detectability(detector, images[6:], random_state=0)
    assert {image.dtype for image in seen} == {np.dtype(np.uint8)}


def test_images_that_were_trained_on(detector, few):
    good = texture(9, 40, 48)
    with pytest.warns(UserWarning, match="of 4 images were trained on, so the figures are too"):
        detectability(detector, good[5:])
    continued = cheap(threshold=0.5, warm_start=True).fit(good[:4]).fit(good[4:8])
    assert len(continued._trained_digests) > len(detector._trained_digests)


def test_one_image(detector, few):
    with pytest.warns(UserWarning, match="There is one good image"):
        detectability(detector, texture(9, 40, 48)[8:])


def test_small_images(detector):
    with pytest.raises(ValueError, match="image 0 has 15 x 48 pixels, and defects are drawn"):
        detectability(detector, texture(3, 15, 48))


def test_no_detector():
    with pytest.raises(TypeError, match="needs a fitted detector of this package, got str"):
        detectability("detector", texture(3, 40, 48))


def test_display(detector, few):
    display = DetectabilityDisplay.from_estimator(
        detector, texture(9, 40, 48)[6:], mm_per_pixel=0.1, random_state=0
    )
    assert display.unit == "mm"
    titles = [ax.get_title() for ax in display.axes_]
    assert [title.split(":")[0] for title in titles[:8]] == list(KINDS)
    assert titles[8:] == ["stain by contrast", "dent by contrast"]
    assert display.axes_[0].get_xlabel() == "size: mm"
    found = {kind for kind, curve in display.found.items() if curve.hits.any()}
    assert set(display.curves_) == found
