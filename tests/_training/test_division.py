"""Which images are kept from training."""

import numpy as np
import pytest
import torch

from sklearn_ssimae._images.collection import sequence_of_images
from sklearn_ssimae._training.division import divide, without_copies


def _divide(indices, shape, **kwargs):
    options = {
        "fraction": 0.1,
        "patch_size": 128,
        "n_channels": 1,
        "rng": np.random.default_rng(0),
        **kwargs,
    }
    return divide(indices, lambda index: torch.empty(1, *shape), **options)


def _shape(part, shape):
    return tuple(part.of(torch.empty(1, *shape)).shape[1:])


def test_a_share_of_whole_images_is_kept():
    division = _divide(range(60), (200, 200))
    kept, trained = ({part.image for part in parts} for parts in (division.kept, division.trained))
    assert len(kept) == 6
    assert kept | trained == set(range(60))
    assert not kept & trained
    assert not any(part.is_region for part in division.kept)


@pytest.mark.parametrize(
    ("n_images", "shape", "kept"),
    [
        (10, (256, 300), (256, 128)),  # a strip of a patch's width, however large a share
        (14, (256, 1536), (256, 154)),  # a tenth of each
        (50, (2000, 256), (200, 256)),
    ],
)
def test_of_few_images_a_strip_of_each_is_kept(n_images, shape, kept):
    division = _divide(range(n_images), shape)
    assert [part.image for part in division.kept] == list(range(n_images))
    assert {_shape(part, shape) for part in division.kept} == {kept}
    for held, trained in zip(division.kept, division.trained, strict=True):
        seen = np.zeros(shape, int)
        for part in (held, trained):
            seen[part.box] += 1
        assert (seen == 1).all()  # nothing twice, nothing lost


def test_a_part_does_not_keep_the_image_in_memory():
    part = _divide(range(14), (256, 1536)).kept[0].of(torch.empty(1, 256, 1536))
    assert part.untyped_storage().nbytes() == part.nbytes


@pytest.mark.parametrize(("n_images", "shape"), [(14, (256, 1000)), (51, (256, 1536))])
def test_more_or_smaller_images_are_kept_whole(n_images, shape):
    division = _divide(range(n_images), shape)
    assert len(division.kept) == round(0.1 * n_images)
    assert not any(part.is_region for part in division.kept)


def test_indices_are_those_given():
    division = _divide([3, 7, 8, 20], (100, 100), fraction=0.25)
    assert sorted(part.image for parts in division for part in parts) == [3, 7, 8, 20]


def test_copies_are_told_by_their_content():
    random = np.random.RandomState(0)
    one, other = random.randint(0, 255, (2, 8, 8), dtype=np.uint8)
    images = sequence_of_images([one, other, one.copy(), one.astype(np.int16), one.reshape(4, 16)])
    assert without_copies(5, images.digest) == [0, 1, 3, 4]


def test_copies_of_files_are_told_by_their_bytes(tmp_path):
    for name, content in (("a.png", b"x"), ("b.png", b"y"), ("c.png", b"x")):
        (tmp_path / name).write_bytes(content)
    images = sequence_of_images([tmp_path / f"{name}.png" for name in "abc"])
    assert without_copies(3, images.digest) == [0, 1]


def test_very_many_images_are_not_searched_for_copies():
    def digest(index):
        raise AssertionError("read")

    assert without_copies(1001, digest) == list(range(1001))


@pytest.mark.parametrize(("place", "kept"), [(0, (1372, 1526)), (1, (300, 423))])
def test_a_strip_lies_where_something_counts(place, kept):
    """The last, and the first, tenth of the columns that count, or a patch."""
    planes = torch.ones(2, 256, 1536)
    planes[1, :, :300] = 0
    planes[1, :, 1526:] = 0
    division = divide(
        range(2),
        lambda index: planes,
        fraction=0.1,
        patch_size=96,
        n_channels=1,
        rng=np.random.default_rng(0),
    )
    columns = division.kept[place].box[1]
    assert (columns.start, columns.stop) == (kept if place else (1526 - 123, 1526))
