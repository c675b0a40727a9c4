"""How long a fit trains whose length is left open: what is judged, when, and what follows."""

from __future__ import annotations

from typing import NamedTuple

#: Epochs of a fit, of one to a material that is hard to learn, and of one to little that can be.
EPOCHS, MORE_EPOCHS, FEW_EPOCHS = 30, 70, 10
#: Epochs after which a fit is shortened and lengthened: before the learning rate falls.
GLANCED_AFTER, JUDGED_AFTER = 5, 18
#: Hard is a material of which so large a share of the mean image's residual is left.
HARD = 0.2
#: Little is learnt of one of whose local contrast the network predicts less in kept images.
LITTLE = 0.1
# Crops that a network must have seen before it is taken for one that learns little.
_LEAST_CROPS = 5000


class Length(NamedTuple):
    """Another length than the one that was foreseen, and why."""

    n_epochs: int
    why: str


def glance(predicted: float, n_crops: int) -> Length | None:
    """Shorter where kept images tell that only brightness and colour can be learnt.

    `predicted` is the `share_predicted` of kept images after `n_crops` crops.
    """
    if n_crops < _LEAST_CROPS or not predicted < LITTLE:
        return None
    return Length(
        FEW_EPOCHS,
        f"{FEW_EPOCHS} epochs instead of {EPOCHS}: {predicted:.0%} of the local contrast of kept "
        f"images is redrawn, less than {LITTLE:.0%}, and more training would not help",
    )


def judge(remaining: float) -> Length | None:
    """Longer where much is left to learn: a share `remaining` of the mean image's residual."""
    if not remaining > HARD:
        return None
    return Length(
        MORE_EPOCHS,
        f"{MORE_EPOCHS} epochs instead of {EPOCHS}: {remaining:.0%} of the mean image's residual "
        f"is left, more than {HARD:.0%}",
    )
