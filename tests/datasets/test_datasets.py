from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from scipy import ndimage
from skimage import data
from sklearn.model_selection import train_test_split

from sklearn_ssimae import ssim_components
from sklearn_ssimae.datasets import (
    add_synthetic_defects,
    list_images,
    load_mvtec_ad,
    make_checkerboards,
    make_patch_pairs,
)

KINDS = ("scratch", "stain", "dent", "thread", "patch")


def write_image(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A category "bolts": two good images, one bent, one with a hole; (h, w) = (4, 6)."""
    image = np.full((4, 6), 100, dtype=np.uint8)
    for name in ("train/good/b.png", "train/good/a.PNG", "test/good/1.png", "test/bent/0.jpg"):
        write_image(tmp_path / "bolts" / name, image)
    write_image(tmp_path / "bolts/test/hole/1.bmp", image[:3])
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[1, 2:5] = 255
    write_image(tmp_path / "bolts/ground_truth/bent/0_mask.png", mask)
    write_image(tmp_path / "bolts/ground_truth/hole/1_mask.png", mask[:3])
    (tmp_path / "nuts").mkdir()
    return tmp_path


class TestListImages:
    def test_sorted_recursive_any_case(self, tmp_path: Path) -> None:
        pixel = np.zeros((1, 1), dtype=np.uint8)
        suffixes = ("png", "JPG", "jpeg", "tif", "TIFF", "bmp", "webp")
        names = [f"{'deep/er/' * (i % 2)}{i}.{suffix}" for i, suffix in enumerate(suffixes)]
        for name in names:
            write_image(tmp_path / name, pixel)
        (tmp_path / "notes.txt").write_text("no image")
        (tmp_path / "folder.png").mkdir()
        (tmp_path / ".git").mkdir()
        assert list_images(tmp_path) == sorted(str(tmp_path / name) for name in names)
        assert list_images(str(tmp_path)) == list_images(tmp_path)

    def test_hidden_parents_do_not_matter(self, tmp_path: Path) -> None:
        path = write_image(tmp_path / ".data/0.png", np.zeros((1, 1), dtype=np.uint8))
        assert list_images(path.parent) == [str(path)]

    def test_errors(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no folder .*absent"):
            list_images(tmp_path / "absent")
        (tmp_path / "notes.txt").write_text("no image")
        with pytest.raises(ValueError, match=r"holds no images.*png, jpg"):
            list_images(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"no folder .*notes\.txt"):
            list_images(tmp_path / "notes.txt")


class TestLoadMvtecAd:
    def test_contents(self, layout: Path) -> None:
        loaded = load_mvtec_ad(layout, "bolts")
        folder = layout / "bolts"
        assert loaded.train == [str(folder / "train/good/a.PNG"), str(folder / "train/good/b.png")]
        assert loaded.test == [
            str(folder / f"test/{n}") for n in ("bent/0.jpg", "good/1.png", "hole/1.bmp")
        ]
        assert loaded.defect_types == ["bent", "good", "hole"]
        np.testing.assert_array_equal(loaded.target, [-1, 1, -1])
        assert loaded.DESCR == "bolts: train 2 good; test 1 bent, 1 good, 1 hole."

    def test_masks(self, layout: Path) -> None:
        masks = load_mvtec_ad(str(layout), "bolts").masks
        assert len(masks) == 3
        expected = np.zeros((4, 6), dtype=bool)
        expected[1, 2:5] = True
        for mask, right in zip(
            masks, (expected, np.zeros((4, 6), bool), expected[:3]), strict=True
        ):
            assert mask.dtype == bool
            np.testing.assert_array_equal(mask, right)
        np.testing.assert_array_equal(masks[np.int64(-1)], expected[:3])
        assert [mask.shape for mask in masks[1:]] == [(4, 6), (3, 6)]
        with pytest.raises(IndexError):
            masks[3]

    def test_masks_are_read_on_access(self, layout: Path) -> None:
        masks = pickle.loads(pickle.dumps(load_mvtec_ad(layout, "bolts"))).masks
        turned = np.zeros((4, 6), np.uint8)
        turned[2:, 1] = 1
        write_image(layout / "bolts/ground_truth/bent/0_mask.png", turned)
        np.testing.assert_array_equal(masks[0], turned > 0)

    def test_masks_are_split_by_scikit_learn(self, layout: Path) -> None:
        loaded = load_mvtec_ad(layout, "bolts")
        paths, _, masks, _ = train_test_split(loaded.test, loaded.masks, random_state=0)
        for path, mask in zip(paths, masks, strict=True):
            np.testing.assert_array_equal(mask, loaded.masks[loaded.test.index(path)])

    def test_without_good_test_images(self, layout: Path) -> None:
        (layout / "bolts/test/good/1.png").unlink()
        (layout / "bolts/test/good").rmdir()
        assert set(load_mvtec_ad(layout, "bolts").target) == {-1}

    @pytest.mark.parametrize("mode", ["1", "RGB", "P", "I;16"])
    def test_modes_of_masks(self, layout: Path, mode: str) -> None:
        file = layout / "bolts/ground_truth/bent/0_mask.png"
        expected = load_mvtec_ad(layout, "bolts").masks[0]
        if mode == "I;16":
            Image.fromarray(expected.astype(np.uint16) * 65535).save(file)
        else:
            Image.fromarray(expected.astype(np.uint8) * 255).convert(mode).save(file)
        np.testing.assert_array_equal(load_mvtec_ad(layout, "bolts").masks[0], expected)

    def test_images_that_lie_on_their_side(self, layout: Path) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        for name in ("good/1.png", "bent/0.jpg"):
            Image.new("L", (4, 6)).save(layout / "bolts/test" / name, exif=exif)
        masks = load_mvtec_ad(layout, "bolts").masks
        assert [mask.shape for mask in masks] == [(4, 6), (4, 6), (3, 6)]

    def test_missing_folders(self, layout: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no folder .*absent"):
            load_mvtec_ad(layout / "absent", "bolts")
        with pytest.raises(FileNotFoundError, match=r"no category 'bolt'\. Found: bolts, nuts"):
            load_mvtec_ad(layout, "bolt")
        with pytest.raises(FileNotFoundError, match=r"no folder .*train.good"):
            load_mvtec_ad(layout, "nuts")

    def test_missing_mask(self, layout: Path) -> None:
        (layout / "bolts/ground_truth/hole/1_mask.png").unlink()
        with pytest.raises(FileNotFoundError, match=r"1\.bmp' has no mask: .*hole.1_mask\.png"):
            load_mvtec_ad(layout, "bolts")

    def test_mask_of_another_size(self, layout: Path) -> None:
        write_image(layout / "bolts/ground_truth/hole/1_mask.png", np.zeros((6, 3), np.uint8))
        with pytest.raises(ValueError, match=r"1_mask\.png' has the size \(6, 3\).*\(3, 6\)"):
            load_mvtec_ad(layout, "bolts")

    def test_image_without_type(self, layout: Path) -> None:
        write_image(layout / "bolts/test/0.png", np.zeros((4, 6), np.uint8))
        with pytest.raises(ValueError, match=r"test.0\.png' belongs into a sub-folder"):
            load_mvtec_ad(layout, "bolts")


class TestMakePatchPairs:
    @pytest.mark.parametrize("size", [4, 31, 32, 128])
    def test_squared_difference_is_a_quarter(self, size: int) -> None:
        pairs = make_patch_pairs(size)
        assert pairs.shape == (3, 2, size, size)
        assert pairs.dtype == np.float32
        assert pairs.min() == 0
        assert pairs.max() == 1
        np.testing.assert_array_equal((pairs[:, 0] - pairs[:, 1]) ** 2, 0.25)

    @pytest.mark.parametrize("window", ["uniform", "gaussian"])
    @pytest.mark.parametrize(
        ("constants", "strongest", "weakest"),
        [
            # A deviation of exactly 0 is held slightly above it in a differentiable SSIM,
            # which costs the structure of the flat patch up to 0.1 at small constants.
            ({}, [0.001, 0.01, -0.98], 0.89),
            ({"c1": 0.01, "c2": 0.03}, [0.04, 0.12, -0.6], 0.99),
        ],
    )
    def test_each_component_reacts_to_one_pair(
        self, window: str, constants: dict[str, float], strongest: list[float], weakest: float
    ) -> None:
        pairs = make_patch_pairs()
        parts = np.stack(ssim_components(pairs[:, 0], pairs[:, 1], window=window, **constants))
        inner = parts[:, :, 5:-5, 5:-5]  # parts, pairs, rows, columns
        for part in range(3):
            assert inner[part, part].max() < strongest[part]
            others = np.delete(inner[part], part, axis=0)
            assert others.min() > weakest
            assert others.mean() > (weakest + 1) / 2 - 0.01

    @pytest.mark.parametrize("size", [3, 0, -1])
    def test_size_is_checked(self, size: int) -> None:
        with pytest.raises(ValueError, match=f"size must be at least 4.*{size}"):
            make_patch_pairs(size)


class TestMakeCheckerboards:
    def test_clean_boards(self) -> None:
        images, masks = make_checkerboards(20, random_state=0)
        assert images.shape == masks.shape == (20, 128, 128)
        assert images.dtype == np.float32
        assert masks.dtype == bool
        assert not masks.any()
        assert images.min() == 0
        assert images.max() == 1
        np.testing.assert_allclose(images.mean(axis=(1, 2)), 0.5, atol=0.1)
        # Black and white but for the anti-aliased edges, which the finest boards have most of.
        is_grey = (images > 0) & (images < 1)
        shares = is_grey.mean(axis=(1, 2))
        assert shares.min() > 0.05
        assert shares.max() < 0.35

    def test_scales_and_orientations_differ(self) -> None:
        images, _ = make_checkerboards(50, random_state=0)
        spectra = np.abs(np.fft.fft2(images - images.mean(axis=(1, 2), keepdims=True)))
        rows, columns = np.fft.fftfreq(128)[:, None] * 128, np.fft.fftfreq(128) * 128
        peaks = spectra.reshape(50, -1).argmax(axis=1)
        frequency = np.hypot(rows, columns).flat[peaks]
        angle = np.rad2deg(np.broadcast_to(np.arctan2(rows, columns), (128, 128)).flat[peaks]) % 90
        # Squares of size/16 to size/4 have their fundamental at 8 √2 to 2 √2 cycles a side.
        assert 2 < frequency.min() < 4
        assert 9 < frequency.max() < 13
        assert (np.histogram(angle, bins=3, range=(0, 90))[0] > 5).all()

    @pytest.mark.parametrize("size", [16, 64, 128])
    def test_defects_are_grey_and_masked(self, size: int) -> None:
        clean, _ = make_checkerboards(20, size=size, random_state=1)
        images, masks = make_checkerboards(20, size=size, defects=True, random_state=1)
        assert masks.any(axis=(1, 2)).all()
        assert masks.mean(axis=(1, 2)).max() < 0.2
        # Grey covers half of a pixel or more within the masks, half or less outside.
        contrast, left = np.abs(clean - 0.5), np.abs(images - 0.5)
        assert (left <= 0.5 * contrast + 1e-6)[masks].all()
        assert (left >= 0.5 * contrast - 1e-6)[~masks].all()
        beyond = ~ndimage.binary_dilation(masks, structure=np.ones((1, 5, 5)))
        np.testing.assert_array_equal(images[beyond], clean[beyond])

    def test_random_state(self) -> None:
        first = make_checkerboards(3, size=32, defects=True, random_state=7)
        again = make_checkerboards(3, size=32, defects=True, random_state=np.random.RandomState(7))
        other = make_checkerboards(3, size=32, defects=True, random_state=8)
        np.testing.assert_array_equal(first, again)
        assert (first[0] != other[0]).any()
        assert (first[0][0] != first[0][1]).any()

    def test_parameters_are_checked(self) -> None:
        with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
            make_checkerboards(0)
        with pytest.raises(ValueError, match="size must be at least 16, got 15"):
            make_checkerboards(1, size=15)


@pytest.fixture(scope="module")
def textures() -> np.ndarray:
    return np.stack([data.brick(), data.grass(), data.gravel()])[:, :160, :192]


class TestAddSyntheticDefects:
    @pytest.mark.parametrize("kind", KINDS)
    def test_mask_is_what_was_altered(self, textures: np.ndarray, kind: str) -> None:
        before = textures.copy()
        images, masks = add_synthetic_defects(textures, kinds=[kind], random_state=0)
        np.testing.assert_array_equal(textures, before)
        assert images.shape == masks.shape == textures.shape
        assert images.dtype == np.uint8
        assert masks.dtype == bool
        np.testing.assert_array_equal(images[~masks], textures[~masks])
        change = np.abs(images.astype(int) - textures)
        for drawn, mask in zip(change, masks, strict=True):
            assert 0.001 < mask.mean() < 0.25
            assert (drawn[mask] >= 7).mean() > 0.4

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
    def test_dtypes_show_the_same_defects(
        self, textures: np.ndarray, kind: str, dtype: str
    ) -> None:
        white = np.iinfo(dtype).max if dtype.startswith("u") else 1
        images = (textures[:1, :64, :64] / 255 * white).round(5).astype(dtype)
        result, masks = add_synthetic_defects(images, kinds=[kind], n_defects=1, random_state=1)
        assert result.dtype == dtype
        assert result.max() <= white
        np.testing.assert_array_equal(result[~masks], images[~masks])
        exact, _ = add_synthetic_defects(images / white, kinds=[kind], n_defects=1, random_state=1)
        np.testing.assert_allclose(result / white, exact, atol=0.003)

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_colour(self, textures: np.ndarray, channels: int) -> None:
        images = np.stack([textures / 255] * channels, axis=-1).astype(np.float32)
        result, masks = add_synthetic_defects(images, random_state=2)
        assert result.shape == images.shape
        assert result.dtype == np.float32
        assert masks.shape == images.shape[:3]
        np.testing.assert_array_equal(result[~masks], images[~masks])
        assert (result != images).any(axis=-1).sum() > 0.5 * masks.sum()

    def test_sequence_of_sizes(self, textures: np.ndarray) -> None:
        images = [textures[0], textures[1, :16, :40], np.stack([textures[2, :50]] * 3, axis=-1)]
        result, masks = add_synthetic_defects(images, random_state=3)
        assert isinstance(result, list)
        assert isinstance(masks, list)
        for image, altered, mask in zip(images, result, masks, strict=True):
            assert altered.shape == image.shape
            assert mask.shape == image.shape[:2]
            assert mask.any()
            np.testing.assert_array_equal(altered[~mask], image[~mask])

    def test_an_image_does_not_depend_on_the_others(self, textures: np.ndarray) -> None:
        together, masks = add_synthetic_defects(textures, random_state=4)
        alone, mask = add_synthetic_defects(textures[:1], random_state=4)
        np.testing.assert_array_equal(alone[0], together[0])
        np.testing.assert_array_equal(mask[0], masks[0])

    def test_random_state(self, textures: np.ndarray) -> None:
        first, again, other = (
            add_synthetic_defects(textures, random_state=state)[0]
            for state in (5, np.random.RandomState(5), 6)
        )
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_n_defects_and_size(self, textures: np.ndarray) -> None:
        few, many = (
            add_synthetic_defects(textures, kinds=["stain"], n_defects=n, random_state=7)[1]
            for n in (1, 6)
        )
        assert (few <= many).all()
        assert many.sum() > 2 * few.sum()
        # Twice the image, twice the defect: its share of the area stays.
        doubled = textures.repeat(2, axis=1).repeat(2, axis=2)
        large = add_synthetic_defects(doubled, kinds=["stain"], n_defects=1, random_state=7)[1]
        np.testing.assert_allclose(large.mean(), few.mean(), rtol=0.1)

    def test_read_only_input(self, textures: np.ndarray) -> None:
        images = textures.copy()
        images.flags.writeable = False
        result, _ = add_synthetic_defects(images, random_state=0)
        assert (result != images).any()

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    def test_flat_images(self, value: float) -> None:
        flat = np.full((1, 64, 64), value)
        for kind in ("scratch", "stain", "thread"):
            _, masks = add_synthetic_defects(flat, kinds=[kind], n_defects=1, random_state=0)
            assert masks.any()
        with pytest.raises(ValueError, match=r"image 0: .*left nothing visible.*Flat images"):
            add_synthetic_defects(flat, kinds=["patch"])

    @pytest.mark.parametrize(
        ("images", "error", "message"),
        [
            (np.zeros((2, 32, 32), np.int64), TypeError, "image 0 must be floating.*int64"),
            ([np.zeros((32, 32)), np.zeros(32)], ValueError, r"image 1 .*\(h, w\).*\(32,\)"),
            (
                [np.zeros((32, 32)), np.zeros((8, 99))],
                ValueError,
                r"image 1 .*16 pixels.*\(8, 99\)",
            ),
            ([np.zeros((32, 32, 0))], ValueError, r"image 0 .*\(32, 32, 0\)"),
            (np.full((1, 32, 32), 200.0), ValueError, r"image 0 .*\[200, 200\].*\[0, 1\]"),
            (np.full((1, 32, 32), -0.1), ValueError, r"image 0 .*\[-0.1, -0.1\]"),
            (np.full((1, 32, 32), np.nan), ValueError, r"image 0 .*\[nan, nan\]"),
            (np.zeros((0, 32, 32)), ValueError, "no image"),
            ([], ValueError, "no image"),
            (["a.png"], TypeError, "image 0 must be floating"),
        ],
    )
    def test_images_are_checked(self, images: object, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            add_synthetic_defects(images)

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"kinds": ["scratch", "rust"]}, "'rust', which is none of 'scratch', 'stain'"),
            ({"kinds": []}, "kinds must be a list of names"),
            ({"kinds": "scratch"}, "kinds must be a list of names.*got 'scratch'"),
            ({"n_defects": 0}, "n_defects must be at least 1, got 0"),
        ],
    )
    def test_parameters_are_checked(
        self, textures: np.ndarray, parameters: dict[str, object], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            add_synthetic_defects(textures, **parameters)
