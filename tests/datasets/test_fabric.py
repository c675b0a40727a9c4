from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from sklearn.utils import Bunch

from sklearn_ssimae.datasets import make_fabric
from sklearn_ssimae.datasets._cloth import Cloth, weave_cloth
from sklearn_ssimae.datasets._fabric import ARTICLES
from sklearn_ssimae.datasets._fabric_defects import add_defect

WEAVES = ("plain", "twill", "satin")
KINDS = (
    "missing_pick",
    "broken_end",
    "float",
    "slub",
    "hole",
    "stain",
    "foreign_thread",
    "loose_weft",
)


@pytest.fixture(scope="module", params=WEAVES)
def pair(request: pytest.FixtureRequest) -> tuple[Bunch, Bunch]:
    """The same pieces of cloth, good and with two defects of each kind."""
    good, bad = (
        make_fabric(16, size=(160, 192), weave=request.param, defects=defects, random_state=0)
        for defects in (False, True)
    )
    return good, bad


def by_kind(data: Bunch, values: np.ndarray, kind: str) -> np.ndarray:
    return np.array([value for value, name in zip(values, data.kinds, strict=True) if name == kind])


class TestImages:
    def test_good(self, pair: tuple[Bunch, Bunch]) -> None:
        good, _ = pair
        assert good.images.shape == good.masks.shape == (16, 160, 192)
        assert good.images.dtype == np.float32
        assert good.masks.dtype == bool
        assert not good.masks.any()
        assert good.kinds == ["good"] * 16
        # Well exposed: nothing is cut off, and the yarns stand out from the noise.
        assert good.images.min() > 0
        assert good.images.max() < 1
        assert ((good.images.mean(axis=(1, 2)) > 0.3) & (good.images.mean(axis=(1, 2)) < 0.6)).all()
        assert good.images.std(axis=(1, 2)).min() > 0.08

    def test_no_two_are_the_same(self, pair: tuple[Bunch, Bunch]) -> None:
        correlation = np.corrcoef(pair[0].images.reshape(16, -1))
        assert correlation[~np.eye(16, dtype=bool)].max() < 0.6

    @pytest.mark.parametrize("weave", WEAVES)
    def test_cloth_repeats_itself(self, weave: str) -> None:
        """The autocorrelation has its peaks at the repeat of the weave, along both axes."""
        images = make_fabric(6, weave=weave, random_state=1).images
        spectra = np.abs(np.fft.fft2(images - images.mean(axis=(1, 2), keepdims=True))) ** 2
        correlation = np.fft.ifft2(spectra.mean(axis=0)).real
        correlation /= correlation[0, 0]
        article = ARTICLES[weave]
        for axis, pitch in enumerate(article.pitch[::-1]):
            repeat = round(article.repeat * pitch)
            profile = np.moveaxis(correlation, axis, 0)[: repeat + 5, 0]
            # The whole yarns are alike already, so nothing but the repeat itself is near it.
            first = int(pitch) + 5
            assert abs(first + profile[first:].argmax() - repeat) <= 1
            assert profile[repeat] > 0.5

    @pytest.mark.parametrize(
        ("weave", "longest", "shortest"),
        [
            ("plain", 1, 1),
            ("twill", 2, 2),
            ("satin", 4, 1),
        ],
    )
    def test_floats(self, weave: str, longest: int, shortest: int) -> None:
        lift = ARTICLES[weave].lift(np.arange(40), np.arange(40))
        for system in (lift, lift.T):
            for face, length in ((1, longest), (-1, shortest)):
                # Floats that the border does not cut.
                runs, n_runs = ndimage.label(system[7] == face)
                assert set(np.bincount(runs)[2:n_runs]) == {length}

    def test_satin_bindings_do_not_touch(self) -> None:
        bound = ARTICLES["satin"].lift(np.arange(40), np.arange(40)) < 0
        assert ndimage.label(bound, structure=np.ones((3, 3)))[1] == bound.sum()

    @pytest.mark.parametrize(
        ("size", "shape"),
        [
            (32, (32, 32)),
            (np.int64(33), (33, 33)),
            ((40, 200), (40, 200)),
            ([200, 40], (200, 40)),
        ],
    )
    def test_size(self, size: object, shape: tuple[int, int]) -> None:
        data = make_fabric(8, size=size, defects=True, random_state=0)
        assert data.images.shape == data.masks.shape == (8, *shape)
        assert data.masks.any(axis=(1, 2)).all()
        assert data.images.std(axis=(1, 2)).min() > 0.05

    def test_random_state(self) -> None:
        first, again, other = (
            make_fabric(3, size=48, defects=True, random_state=state)
            for state in (7, np.random.RandomState(7), 8)
        )
        np.testing.assert_array_equal(first.images, again.images)
        np.testing.assert_array_equal(first.masks, again.masks)
        assert (first.images != other.images).mean() > 0.9

    def test_an_image_does_not_depend_on_the_others(self) -> None:
        few, many = (
            make_fabric(n, size=48, defects=True, weave="satin", random_state=3) for n in (2, 4)
        )
        np.testing.assert_array_equal(few.images, many.images[:2])
        np.testing.assert_array_equal(few.masks, many.masks[:2])

    def test_description(self) -> None:
        assert make_fabric(2, size=32, random_state=0).DESCR == "plain: 2 good."
        data = make_fabric(9, size=32, weave="twill", defects=True, random_state=0)
        assert data.DESCR.startswith("twill: 1 broken_end, 1 float,")
        assert "2 missing_pick" in data.DESCR

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"n_samples": 0}, "n_samples must be at least 1, got 0"),
            ({"size": 31}, "size must be a side .* at least 32, got 31"),
            ({"size": (64, 16)}, r"size .*got \(64, 16\)"),
            ({"size": (64, 64, 3)}, r"size .*got \(64, 64, 3\)"),
            ({"size": 64.0}, r"whole pixels.*got 64\.0"),
            ({"size": ()}, r"size .*got \(\)"),
            ({"weave": "jersey"}, "'plain', 'twill', 'satin', got 'jersey'"),
        ],
    )
    def test_parameters_are_checked(self, parameters: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make_fabric(**{"n_samples": 1, **parameters})


class TestDefects:
    def test_kinds_take_turns(self, pair: tuple[Bunch, Bunch]) -> None:
        assert pair[1].kinds == [*KINDS, *KINDS]

    def test_masks_are_exact(self, pair: tuple[Bunch, Bunch]) -> None:
        good, bad = pair
        np.testing.assert_array_equal(bad.images[~bad.masks], good.images[~bad.masks])
        change = np.abs(bad.images - good.images)
        for drawn, mask in zip(change, bad.masks, strict=True):
            assert 50 <= mask.sum() < 0.3 * mask.size
            # The rest are gaps between places that show, such as floats that look the same.
            assert (drawn[mask] > 0.03).mean() > 0.5

    def test_yarns_that_are_missing(self, pair: tuple[Bunch, Bunch]) -> None:
        """A missing pick runs across the image, a broken end down it, three yarns wide."""
        _, bad = pair
        for kind, across in (("missing_pick", 0), ("broken_end", 1)):
            for mask in by_kind(bad, bad.masks, kind):
                lines = mask.any(axis=across)
                thickness = mask.sum(axis=across)[lines].mean()
                assert 8 < thickness < 32
                assert lines.sum() > thickness
                # It goes on to a border.
                assert lines[0] | lines[-1]

    def test_the_floor_is_seen_through_holes(self, pair: tuple[Bunch, Bunch]) -> None:
        good, bad = pair
        darkest = np.quantile(good.images, 0.001)
        for image, mask in zip(
            *(by_kind(bad, part, "hole") for part in (bad.images, bad.masks)), strict=True
        ):
            assert (image[mask] < darkest).mean() > 0.1

    def test_stains_leave_the_structure(self, pair: tuple[Bunch, Bunch]) -> None:
        good, bad = pair
        for image, stained, mask in zip(
            *(by_kind(bad, part, "stain") for part in (good.images, bad.images, bad.masks)),
            strict=True,
        ):
            assert np.corrcoef(image[mask], stained[mask])[0, 1] > 0.7


class TestYarns:
    """Defects change what they are named after, and nothing else."""

    @pytest.fixture
    def cloth(self) -> Cloth:
        return weave_cloth(ARTICLES["plain"], (240, 280), np.random.RandomState(0))

    def spoil(self, cloth: Cloth, kind: str) -> Cloth:
        view = (slice(20, 220), slice(20, 260))
        return add_defect(cloth, kind, view, np.random.RandomState(1))

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_good_cloth_stays(self, cloth: Cloth, kind: str) -> None:
        again = weave_cloth(ARTICLES["plain"], (240, 280), np.random.RandomState(0))
        self.spoil(cloth, kind)
        for yarns, others in ((cloth.warp, again.warp), (cloth.weft, again.weft)):
            for name, value in vars(yarns).items():
                np.testing.assert_array_equal(value, getattr(others, name))
        assert not cloth.strands
        assert (cloth.dye == 1).all()

    @pytest.mark.parametrize(
        ("kind", "torn", "whole"),
        [
            ("missing_pick", "weft", "warp"),
            ("broken_end", "warp", "weft"),
        ],
    )
    def test_one_yarn_is_missing(self, cloth: Cloth, kind: str, torn: str, whole: str) -> None:
        spoilt = self.spoil(cloth, kind)
        assert (getattr(spoilt, torn).radius == 0).any(axis=1).sum() == 1
        np.testing.assert_array_equal(getattr(spoilt, whole).radius, getattr(cloth, whole).radius)

    def test_floats_miss_crossings(self, cloth: Cloth) -> None:
        spoilt = self.spoil(cloth, "float")
        np.testing.assert_array_equal(spoilt.weft.lift, -spoilt.warp.lift.T)
        missed = spoilt.warp.lift != cloth.warp.lift
        ends, picks = missed.any(axis=1).sum(), missed.any(axis=0).sum()
        # In plain weave every other crossing was right by chance.
        assert 2 <= min(ends, picks) <= 4 < max(ends, picks) <= 9
        assert missed.sum() in (ends * picks // 2, (ends * picks + 1) // 2)

    @pytest.mark.parametrize(("kind", "name"), [("slub", "radius"), ("loose_weft", "rise")])
    def test_one_yarn_swells_or_rises(self, cloth: Cloth, kind: str, name: str) -> None:
        spoilt = self.spoil(cloth, kind)
        change = [
            getattr(getattr(spoilt, system), name) - getattr(getattr(cloth, system), name)
            for system in ("warp", "weft")
        ]
        assert sum((part != 0).any(axis=1).sum() for part in change) == 1
        assert all((part >= 0).all() for part in change)

    def test_holes_go_through(self, cloth: Cloth) -> None:
        spoilt = self.spoil(cloth, "hole")
        assert (spoilt.warp.radius == 0).any()
        assert (spoilt.weft.radius == 0).any()

    def test_a_foreign_thread_is_dark_or_light(self, cloth: Cloth) -> None:
        (thread,) = self.spoil(cloth, "foreign_thread").strands
        tones = [yarns.tone.mean() for yarns in (cloth.warp, cloth.weft)]
        assert thread.tone < min(tones) - 0.2 or thread.tone > max(tones) + 0.1

    def test_a_stain_darkens(self, cloth: Cloth) -> None:
        dye = self.spoil(cloth, "stain").dye
        assert 0.4 < dye.min() < 0.75
        assert dye.max() == 1
