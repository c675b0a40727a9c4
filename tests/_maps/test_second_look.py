"""Maps that are made twice where they exceed a level."""

import pytest
import torch
from shared import texture

from sklearn_ssimae._maps.making import Comparison, MapMaker, repair

LEVEL = 0.12
SIDE = 48
GOOD = torch.from_numpy(texture(1, SIDE, SIDE)).float()
DEFECT = torch.zeros(1, SIDE, SIDE)
DEFECT[:, 20:28, 14:30] = 0.4


def maker(reconstruct, level=LEVEL):
    return MapMaker(
        Comparison(reconstruct, lambda a, b: (a - b).abs().mean(dim=1), "reconstruction"),
        patch_size=SIDE,
        stride=SIDE,
        smoothing=0,
        good=None,
        level=level,
        opening_diameter=None,
        device=torch.device("cpu"),
    )


def half_redrawn(patches):
    """The good image, and half of what is wrong in the patch."""
    return (patches + GOOD) / 2


def test_what_stands_out_is_replaced_and_reconstructed_again():
    image = GOOD + DEFECT
    (_, once), (_, twice) = (
        next(maker(half_redrawn, level).maps([("tag", image)])) for level in (None, LEVEL)
    )
    torch.testing.assert_close(once, DEFECT[0] / 2)
    # 0.2 is more than a third above the level: the second time the network is shown half of the
    # defect, and redraws half of that.
    torch.testing.assert_close(twice, DEFECT[0] * 3 / 4)


def test_an_image_that_nowhere_exceeds_the_level_is_looked_at_once():
    seen = []

    def counted(patches):
        seen.append(len(patches))
        return half_redrawn(patches)

    faint = GOOD + DEFECT / 2
    once = next(maker(counted, None).maps([("tag", faint)]))[1]
    n_first = len(seen)
    tag, found = next(maker(counted).maps([("tag", faint)]))
    assert tag == "tag"
    assert len(seen) == 2 * n_first
    assert torch.equal(found, once)
    next(maker(counted).maps([("tag", GOOD + DEFECT)]))
    assert len(seen) == 4 * n_first


def test_images_keep_their_order_and_their_tags():
    images = [(index, GOOD + DEFECT * (index % 2)) for index in range(5)]
    found = list(maker(half_redrawn).maps(images))
    assert [tag for tag, _ in found] == list(range(5))
    for index, residual in found:
        torch.testing.assert_close(residual, DEFECT[0] * (index % 2) * 3 / 4)


@pytest.mark.parametrize(("value", "share"), [(0.0, 0), (0.3, 0), (0.35, 0.5), (0.4, 1), (7.0, 1)])
def test_share_that_is_replaced(value, share):
    images, reconstructions = torch.full((1, 3, 2, 2), 0.8), torch.full((1, 3, 2, 2), 0.2)
    repaired = repair(images, reconstructions, torch.full((1, 2, 2), value), 0.3)
    torch.testing.assert_close(repaired, images * (1 - share) + reconstructions * share)


def test_a_level_of_zero_replaces_what_is_above_it():
    images, reconstructions = torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
    repaired = repair(images, reconstructions, torch.tensor([[[0.0, 1.0]]]), 0.0)
    assert repaired.tolist() == [[[[1.0, 0.0]]]]
