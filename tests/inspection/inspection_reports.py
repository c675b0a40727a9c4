"""What the tests of the report share: a detector, images, and how to read a report."""

import base64
import json
import re
import zlib

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from sklearn_ssimae import L2AutoencoderDetector

CARD = re.compile(
    r'data-index="(\d+)".*?class="photo" alt="" src="data:image/webp;base64,([^"]*)".*?'
    r'<script type="application/json">(.*?)</script>',
    re.S,
)
DATA = re.compile(r'<script type="application/json" id="report">(.*?)</script>')


def fitted(X, make=L2AutoencoderDetector, **parameters):
    detector = make(
        patch_size=16, latent_dim=2, n_patches=8, max_iter=1, smoothing=1.0, random_state=0
    )
    with pytest.warns(ConvergenceWarning):
        return detector.set_params(**parameters).fit(X)


def stripes_with_spots(n, shape=(40, 48), seed=0):
    """Images (n, h, w) of uint8, and masks of their spots; every other one has a spot."""
    rng = np.random.default_rng(seed)
    images = np.tile(128 + 60 * np.sin(np.arange(shape[1])), (n, shape[0], 1))
    images += rng.normal(0, 8, images.shape)
    masks = np.zeros(images.shape, dtype=bool)
    for index in range(1, n, 2):
        y, x = rng.integers(0, (shape[0] - 8, shape[1] - 9))
        masks[index, y : y + 8, x : x + 9] = True
    images[masks] += 20 * rng.integers(1, 6)
    return images.clip(0, 255).astype(np.uint8), masks


def read_report(path):
    """What the page computes with, and of each card (index, payload), in their order."""
    text = path.read_text(encoding="utf-8")
    (data,) = DATA.findall(text)
    cards = [
        (int(index), {"photo": photo, **json.loads(payload)})
        for index, photo, payload in CARD.findall(text)
    ]
    return json.loads(data), cards


def decode(text, grid):
    """A plane as the page decodes it."""
    differences = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.cumsum(differences.reshape(grid), axis=0, dtype=np.uint8)


def pooled(mask, factor):
    """Whether any pixel of each block is True."""
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % factor), (0, -width % factor)))
    return padded.reshape(-(-height // factor), factor, -1, factor).any(axis=(1, 3))
