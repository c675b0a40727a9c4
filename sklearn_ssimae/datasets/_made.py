"""Images that are made: what the paper's figures show."""

from __future__ import annotations

import numpy as np

from sklearn_ssimae.datasets._drawing import MIN_SIDE, coverage, curve, one_state_each


def make_patch_pairs(size: int = 32) -> np.ndarray:
    r"""Make the three pairs of patches of the paper's Figure 2.

    In each pair the patches differ by 0.5 at every pixel, so the squared difference is
    0.25 throughout. They differ in mean, in variance or in covariance alone, to which
    SSIM's luminance, contrast and structure react, one each.

    Parameters
    ----------
    size : int, default=32
        Side of the patches in pixels, at least 4.

    Returns
    -------
    pairs : ndarray of shape (3, 2, size, size), float32
        Values in [0, 1]. ``pairs[0]`` differs in luminance, ``pairs[1]`` in contrast,
        ``pairs[2]`` in structure; ``x, y = pairs[i]``.

    Raises
    ------
    ValueError
        When `size` is less than 4.

    See Also
    --------
    sklearn_ssimae.ssim_components : The three factors of SSIM.

    Notes
    -----
    The pairs are black and mid-grey; mid-grey and a board of black and white squares; a
    board of two greys and its negative. Pair two can have no texture in x: for equal
    means, a constant :math:`|x-y|=\tfrac12` in [0, 1] allows no positive covariance, and
    only a flat patch has a structure of 1 without one.

    Squares of 2 pixels are balanced in the windows: in one of 11 pixels, of either kind,
    the means of the patches of pairs two and three differ by less than 0.01.

    References
    ----------
    .. [1] P. Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying
       Structural Similarity to Autoencoders", VISAPP 2019, Figure 2.

    Examples
    --------
    >>> from sklearn_ssimae import ssim_components
    >>> from sklearn_ssimae.datasets import make_patch_pairs
    >>> x, y = make_patch_pairs()[2]
    >>> [round(float(part.mean()), 2) for part in ssim_components(x, y)]
    [1.0, 1.0, -0.99]
    """
    if size < 4:
        raise ValueError(f"size must be at least 4, one period of the board, got {size!r}.")
    stripes = np.arange(size) // 2 % 2
    board = (stripes[:, None] ^ stripes).astype(np.float32)
    black, grey = np.zeros_like(board), np.full_like(board, 0.5)
    # All values are quarters, so every difference is exact.
    return np.array([[black, grey], [grey, board], [0.25 + board / 2, 0.75 - board / 2]])


def make_checkerboards(
    n_samples: int = 100,
    *,
    size: int = 128,
    defects: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Make black and white checkerboards, as for the paper's Figure 3.

    Parameters
    ----------
    n_samples : int, default=100
        Number of images.
    size : int, default=128
        Side of the images in pixels, at least 16. The boards' squares have sides between
        ``size / 16`` and ``size / 4``, any orientation and any offset; edges are
        anti-aliased.
    defects : bool, default=False
        Draw one to three strokes and as many dots of mid-grey into each image.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same images each time. The boards do not depend on `defects`.

    Returns
    -------
    images : ndarray of shape (n_samples, size, size), float32
        Values in [0, 1].
    masks : ndarray of shape (n_samples, size, size), bool
        True on strokes and dots, where they cover half of a pixel or more.

    Raises
    ------
    ValueError
        When `n_samples` is less than 1 or `size` less than 16.

    References
    ----------
    .. [1] P. Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying
       Structural Similarity to Autoencoders", VISAPP 2019, Figure 3.

    Examples
    --------
    >>> from sklearn_ssimae.datasets import make_checkerboards
    >>> images, masks = make_checkerboards(2, defects=True, random_state=0)
    >>> images.shape, bool(masks.any(axis=(1, 2)).all())
    ((2, 128, 128), True)
    """
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples!r}.")
    if size < MIN_SIDE:
        raise ValueError(f"size must be at least {MIN_SIDE}, got {size!r}.")
    images = np.empty((n_samples, size, size), dtype=np.float32)
    masks = np.zeros(images.shape, dtype=bool)
    for index, random in enumerate(one_state_each(random_state, n_samples)):
        board = _checkerboard(size, random)
        if defects:
            marks = _strokes_and_dots(size, random)
            board += marks * (0.5 - board)
            masks[index] = marks >= 0.5
        images[index] = board
    return images, masks


def _checkerboard(size: int, random: np.random.RandomState) -> np.ndarray:
    side = size * 2 ** random.uniform(-4, -2)
    angle = random.uniform(0, np.pi / 2)
    rows, columns = np.indices((size, size))
    board = np.ones((size, size))
    for across in (
        rows * np.cos(angle) - columns * np.sin(angle),
        rows * np.sin(angle) + columns * np.cos(angle),
    ):
        line = across / side + random.uniform(0, 2)
        nearest = np.rint(line)
        # Signed distance to the nearest line, in pixels: the edge is one pixel wide.
        distance = np.clip((line - nearest) * side, -0.5, 0.5)
        board *= 2 * distance * (1 - 2 * (nearest % 2))
    return (1 + board) / 2


def _strokes_and_dots(size: int, random: np.random.RandomState) -> np.ndarray:
    marks = np.zeros((size, size))
    for _ in range(random.randint(1, 4)):
        stroke = curve(marks.shape, random, length=random.uniform(0.2, 0.5) * size, bend=0.5)
        radius = np.full(len(stroke), max(0.75, random.uniform(0.01, 0.02) * size))
        np.maximum(marks, coverage(marks.shape, stroke, radius), out=marks)
    for _ in range(random.randint(1, 4)):
        dot = random.uniform(0.1, 0.9, size=(1, 2)) * size
        radius = np.array([max(0.75, random.uniform(0.025, 0.05) * size)])
        np.maximum(marks, coverage(marks.shape, dot, radius), out=marks)
    return marks
