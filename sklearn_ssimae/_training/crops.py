"""Random crops of images: what a network learns from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_ssimae._maps.tiling import pad_to_patch
from sklearn_ssimae._training.reading import Reading
from sklearn_ssimae._training.variation import Change, Variation, varied

# Prepared images kept in memory. A data set beyond half of it is visited in groups of half of
# it: one that is trained on, and the next, which is read meanwhile.
CACHE_BYTES = 512 * 2**20
# An image that must be read for an epoch yields at least so many crops, or reading would
# take longer than training.
_CROPS_PER_READ = 8


class CropSampler:
    """Random crops of images, which are loaded when needed and kept within a bound.

    Every pixel is seen about equally often, those at the border included: corners are drawn from
    half a patch beyond the image on, and moved into it. Within the images in memory, one is drawn
    in proportion to its area. When not all fit, each epoch visits the next group of a random
    order of all, which a thread has read during the epoch before. The thread ends with `close`.

    Parameters
    ----------
    load : callable
        Index to image, Tensor (c, h, w), float32. Where some of it does not count, a last plane
        more, 1 where it does and 0 elsewhere: crops lie around pixels that count.
    n_images, patch_size, n_channels : int
    rng : numpy Generator
    augment : bool, default=False
        Whether crops are turned and flipped, in all eight ways.
    variation : Variation, default=None
        How much light and pose of the crops vary. None: not at all.
    """

    def __init__(
        self,
        load: Callable[[int], Tensor],
        n_images: int,
        patch_size: int,
        n_channels: int,
        rng: np.random.Generator,
        augment: bool = False,
        variation: Variation | None = None,
    ) -> None:
        self._load = load
        self._n_channels = n_channels
        self.n_images = n_images
        self._patch_size = patch_size
        self._rng = rng
        self._augment = augment
        self._variation = variation
        self._order: list[int] = []  # of the images to come, from the last to the first
        self._group: list[Tensor] = []
        self._members: list[int] = []
        self._next: Reading | None = None

    def batches(self, n_patches: int, batch_size: int) -> Iterator[Tensor]:
        """Batches (batch_size, c, p, p) of n_patches crops in all; the last may be smaller.

        `split_counts` takes off the plane of what counts, which a batch may have.
        """
        if len(self._group) < self.n_images:
            most = min(self.n_images, max(1, n_patches // _CROPS_PER_READ))
            if self._next is not None and len(self._next.indices) != most:
                self.close()  # another n_patches than that of the epoch before
            self._next = self._next or self._read_group(most)
            self._take_group(self._next)
            are_all = len(self._group) == self.n_images
            self._next = None if are_all else self._read_group(most)
        patch = self._patch_size
        chosen, centres = self._centres(n_patches)
        sides = np.array([image.shape[1:] for image in self._group])
        corners = (centres - patch // 2).clip(0, sides[chosen] - patch)
        turns = self._rng.integers(8, size=n_patches) if self._augment else np.zeros(n_patches, int)
        changes: list[Change | None] = [None] * n_patches
        if self._variation is not None:
            changes = [*self._variation.draw(n_patches, self._rng)]
        for start in range(0, n_patches, batch_size):
            batch = slice(start, start + batch_size)
            yield self._stack(
                [
                    _turned(self._crop(index, corner, change), turn)
                    for index, corner, change, turn in zip(
                        chosen[batch], corners[batch], changes[batch], turns[batch], strict=True
                    )
                ]
            )

    def _crop(self, index: int, corner: np.ndarray, change: Change | None) -> Tensor:
        image, patch = self._group[index], self._patch_size
        y, x = corner.tolist()
        if change is None:
            return image[:, y : y + patch, x : x + patch]
        middle = (patch - 1) / 2
        centre, size = (y + middle, x + middle), (patch, patch)
        return varied(image, self._n_channels, change, centre, size)

    def _centres(self, n_patches: int) -> tuple[np.ndarray, np.ndarray]:
        """Images (n,) of the group and pixels (n, 2) of them, all that count equally likely."""
        sides = np.array([image.shape[1:] for image in self._group])
        counting = [self._counting(image) for image in self._group]
        areas = np.array(
            [
                side.prod() if pixels is None else len(pixels)
                for side, pixels in zip(sides, counting, strict=True)
            ],
            dtype=float,
        )
        if not areas.any():
            raise ValueError(
                "No pixel of the images counts: all are outside the region, transparent or marked "
                "as defects. Give images of which more counts."
            )
        chosen = self._rng.choice(len(areas), size=n_patches, p=areas / areas.sum())
        centres = self._rng.integers(sides[chosen])
        for place, index in enumerate(chosen):
            pixels = counting[index]
            if pixels is not None:
                pixel = pixels[self._rng.integers(len(pixels))]
                centres[place] = divmod(int(pixel), int(sides[index, 1]))
        return chosen, centres

    def _counting(self, image: Tensor) -> np.ndarray | None:
        """Flat indices of the pixels that count; None for all."""
        if len(image) == self._n_channels:
            return None
        return np.flatnonzero(image[-1].numpy())

    def _stack(self, crops: list[Tensor]) -> Tensor:
        if any(len(crop) > self._n_channels for crop in crops):
            crops = [
                crop
                if len(crop) > self._n_channels
                else torch.cat([crop, torch.ones_like(crop[:1])])
                for crop in crops
            ]
        return torch.stack(crops)

    def _read_group(self, most: int) -> Reading:
        """Begin to read what comes next in the order, which the reading does not touch."""
        if len(self._order) < most:
            # What is left of the old order comes last in the new one, and not twice in a group.
            left = set(self._order)
            order = self._rng.permutation(self.n_images).tolist()
            self._order = sorted(order, key=lambda index: index not in left) + self._order
        candidates: dict[int, None] = {}
        for index in reversed(self._order):
            if len(candidates) == most:
                break
            candidates[index] = None
        return Reading(self._load_padded, list(candidates), CACHE_BYTES / 2)

    def _take_group(self, reading: Reading) -> None:
        self._group, self._members = [], []  # now, so that no third group is in memory
        self._group = reading.result()
        self._members = list(reading.indices[: len(self._group)])
        taken, skipped = set(self._members), []
        while taken:
            index = self._order.pop()
            if index in taken:
                taken.remove(index)
            else:
                skipped.append(index)
        self._order.extend(reversed(skipped))

    def _load_padded(self, index: int) -> Tensor:
        return pad_to_patch(self._load(index), self._patch_size)

    def close(self) -> None:
        """End the thread that reads ahead."""
        if self._next is not None:
            self._next.stop()
            self._next = None

    def state_dict(self) -> dict[str, Any]:
        """What the crops to come depend on; of the images in memory, their indices."""
        return {
            "rng": json.dumps(self._rng.bit_generator.state),
            "order": torch.tensor(self._order, dtype=torch.int64),
            "members": torch.tensor(self._members, dtype=torch.int64),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`; the images that were in memory are loaded again."""
        self.close()
        self._rng.bit_generator.state = json.loads(state["rng"])
        self._order = state["order"].tolist()
        loaded = dict(zip(self._members, self._group, strict=True))
        self._members = state["members"].tolist()
        self._group = [
            loaded[index] if index in loaded else self._load_padded(index)
            for index in self._members
        ]


def _turned(crop: Tensor, turn: int) -> Tensor:
    """One of the eight symmetries of a square crop (c, p, p)."""
    rotated = torch.rot90(crop, int(turn) % 4, dims=(1, 2))
    return rotated.flip(2) if turn >= 4 else rotated
