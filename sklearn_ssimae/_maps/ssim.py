"""Structural similarity (SSIM): one function for the training loss and the residual map.

Conventions, and how they map to other libraries
------------------------------------------------
Range      1 for identical images, down to -1; eq. (8) of Bergmann et al. 2019.
Window     weights sum to 1, so variances are population variances: scikit-image's
           ``use_sample_covariance=False``.
Borders    the image is mirrored, edge pixel included, as often as the window needs:
           ``mode="reflect"`` of :mod:`scipy.ndimage`, scikit-image's choice. The map
           has the image's size, and a window larger than the image is no error.
Constants  ``c1`` and ``c2`` are the constants themselves, for images in [0, 1]. Other
           libraries take ``K1``, ``K2`` and ``data_range``: ``c1 = (K1 * data_range)**2``.
Colour     there is none here: the last two axes are one channel. Callers average
           the maps of the channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sklearn_ssimae._maps.windows import (
    TraceableWindowMean,
    Window,
    WindowMean,
    by_rows,
    make_window_mean,
)

# The defaults are Wang et al.'s constants at a data range of 1. The paper prints 0.01
# and 0.03; docs/notes/map.md tells what each does on real data.
DEFAULT_C1 = 0.01**2
DEFAULT_C2 = 0.03**2

# Added to both variances under a square root. Its slope stays finite at flat patches, and
# since x and y get the same, identical patches still have a contrast of exactly 1.
_VARIANCE_EPS = 1e-10
# Rounds off the corner of |s|**gamma at s = 0, see `_signed_power`.
_POWER_EPS = 1e-6

ArrayOrTensor = TypeVar("ArrayOrTensor", np.ndarray, Tensor)
# Tensors to write to, or None for fresh ones, as `out=` of torch's functions.
_Outputs = Sequence[Tensor | None]


def ssim_map(
    x: ArrayOrTensor,
    y: ArrayOrTensor,
    *,
    window_size: int = 11,
    window: Window = "uniform",
    sigma: float = 1.5,
    c1: float = DEFAULT_C1,
    c2: float = DEFAULT_C2,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> ArrayOrTensor:
    r"""Structural similarity of two images at every pixel.

    Parameters
    ----------
    x, y : ndarray or Tensor of shape (..., h, w)
        Floating-point images of one shape, with values in [0, 1]. For a range `L` other
        than 1 divide by it, or multiply `c1` and `c2` by ``L**2``. Half-precision
        tensors are computed in float32.
    window_size : int, default=11
        Side K of the square window, odd. Pixels.
    window : {"uniform", "gaussian"}, default="uniform"
        Weights of the window.
    sigma : float, default=1.5
        Standard deviation in pixels of the Gaussian window; it has no effect on the
        uniform one. scikit-image truncates at ``window_size = 2 * int(3.5 * sigma + 0.5)
        + 1``.
    c1, c2 : float, default=1e-4 and 9e-4
        Constants of the luminance term, and of the contrast and structure terms. The
        defaults are ``0.01**2`` and ``0.03**2``. The paper prints ``c1=0.01, c2=0.03``.
    alpha, beta, gamma : float, default=1.0
        Exponents of luminance, contrast and structure, at least 0.

    Returns
    -------
    ssim : ndarray or Tensor of shape (..., h, w)
        Values in [-1, 1]; exactly 1 where the windows are identical. An ndarray for
        ndarrays, a tensor for tensors, differentiable in `x` and `y`: once, and as often as
        wanted under `torch.func`.

    Raises
    ------
    TypeError
        When the images are not floating point, or one is an array and one a tensor.
    ValueError
        When the shapes differ or a parameter is outside its range.

    See Also
    --------
    ssim_components : The three factors, apart.

    Notes
    -----
    With all exponents 1 this is eq. (8) of [1]_,

    .. math:: \frac{(2\mu_p\mu_q + c_1)(2\sigma_{pq} + c_2)}
              {(\mu_p^2 + \mu_q^2 + c_1)(\sigma_p^2 + \sigma_q^2 + c_2)},

    otherwise eq. (4), :math:`l^\alpha c^\beta s^\gamma`. Structure (and, for negative
    images, luminance) can be negative. An exponent that is no whole number then acts on
    the magnitude and keeps the sign: :math:`s\,|s|^{\gamma-1}`, with :math:`|s|`
    replaced by :math:`\sqrt{(s^2+\epsilon)/(1+\epsilon)}`, :math:`\epsilon = 10^{-6}`,
    so that the slope at 0 is finite. It is 1 at 1, -1 at -1 and increasing between.

    Images of large values and small contrast lose no precision: each is shifted by the
    mean of `x` before squares are taken, which changes no variance.

    References
    ----------
    .. [1] P. Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying
       Structural Similarity to Autoencoders", VISAPP 2019, eqs. (4) to (8).
    .. [2] Z. Wang et al., "Image quality assessment: from error visibility to structural
       similarity", IEEE Trans. Image Processing 13(4), 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssimae import ssim_map
    >>> x = np.linspace(0, 1, 1024).reshape(32, 32)
    >>> ssim_map(x, x).min()
    np.float64(1.0)
    >>> bool(ssim_map(x, 1 - x).min() < 0)
    True
    """
    _check_parameters(window_size, window, sigma, c1, c2, alpha, beta, gamma)
    filter_ = make_window_mean(window_size, window, sigma)
    a, b = _as_tensors(x, y)
    if alpha == beta == gamma == 1:
        function = _traceable_ssim if isinstance(filter_, TraceableWindowMean) else _SSIM.apply
        ssim = function(a, b, filter_, c1, c2)
    else:
        luminance, contrast, structure = _components(a, b, filter_, c1, c2)
        ssim = (
            _signed_power(luminance, alpha)
            * _signed_power(contrast, beta)
            * _signed_power(structure, gamma)
        )
    return _like(ssim, x)


def ssim_components(
    x: ArrayOrTensor,
    y: ArrayOrTensor,
    *,
    window_size: int = 11,
    window: Window = "uniform",
    sigma: float = 1.5,
    c1: float = DEFAULT_C1,
    c2: float = DEFAULT_C2,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> tuple[ArrayOrTensor, ArrayOrTensor, ArrayOrTensor]:
    """Luminance, contrast and structure at every pixel, each raised to its exponent.

    Parameters
    ----------
    x, y : ndarray or Tensor of shape (..., h, w)
        Floating-point images of one shape, with values in [0, 1].
    window_size, window, sigma, c1, c2, alpha, beta, gamma : int, str and floats
        As for :func:`ssim_map`.

    Returns
    -------
    luminance, contrast, structure : ndarray or Tensor of shape (..., h, w)
        Eqs. (5) to (7) of the paper to the power `alpha`, `beta` and `gamma`. For images
        in [0, 1] luminance and contrast lie in (0, 1], structure in [-1, 1]. Their
        product is :func:`ssim_map`.

    Raises
    ------
    TypeError, ValueError
        As :func:`ssim_map`.

    Notes
    -----
    Structure is ``(2 σ_pq + c2) / (2 σ_p σ_q + c2)`` as the paper's eq. (7) prints it.
    Variances are held at 0 or above, covariances within ± σ_p σ_q, which rounding
    would otherwise leave.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ssimae import ssim_components
    >>> x = np.random.default_rng(0).random((32, 32)) / 2
    >>> luminance, contrast, structure = ssim_components(x, x + 0.5)
    >>> bool(luminance.mean() < 0.7), round(float(contrast.mean()), 6)
    (True, 1.0)
    """
    _check_parameters(window_size, window, sigma, c1, c2, alpha, beta, gamma)
    a, b = _as_tensors(x, y)
    parts = _components(a, b, make_window_mean(window_size, window, sigma), c1, c2)
    luminance, contrast, structure = (
        _like(_signed_power(part, exponent), x)
        for part, exponent in zip(parts, (alpha, beta, gamma), strict=True)
    )
    return luminance, contrast, structure


class _Filter(torch.autograd.Function):
    """A window mean inside autograd's graph."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, window_mean: WindowMean) -> Tensor:
        ctx.window_mean = window_mean
        return window_mean(images)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Filter.apply(grads[0], ctx.window_mean), None


class _SSIM(torch.autograd.Function):
    """Eq. (8) with its gradient in closed form: four window means forward, three back.

    SSIM depends on the images through μx, μy, q = E[x² + y²]/2 and r = E[xy]. Forward keeps
    its derivatives by these; backward takes the window mean, its own adjoint, of each and
    applies the chain rule ∂q/∂y = y, ∂r/∂y = x.

    All is done in strips: a CPU's cache holds what one takes.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, window_mean: WindowMean, c1: float, c2: float
    ) -> Tensor:
        ssim = torch.empty_like(x, memory_format=torch.contiguous_format)
        xs, ys, out = by_rows(x), by_rows(y), by_rows(ssim)
        shift = x.mean(dim=(-2, -1)).view(1, -1, 1)
        needed = ctx.needs_input_grad[:2]
        height, *others = xs.shape
        # By −q, by r, and by μx and μy as they are needed.
        derivatives = xs.new_empty(height, 2 + sum(needed) if any(needed) else 0, *others)
        for strip in window_mean.strips(xs, 4):
            source, place = (strip.source, strip.images), (strip.rows, strip.images)
            level = shift[:, strip.images]
            _moments(xs[source], ys[source], level, strip.maps.unbind(1))
            means, free = (maps.unbind(1) for maps in strip.filter())
            a1, a2, b1, b2 = _brackets(means, level, c1, c2, (*free, *means[2:]))
            if not any(needed):
                torch.clamp(a1.mul_(a2).div_(b1.mul_(b2)), -1, 1, out=out[place])
                continue
            mx, my, ux, uy = *means[:2], *free[:2]
            minus_by_q, by_r, *by_means = derivatives[strip.rows, :, strip.images].unbind(1)
            denominator = b1 * b2
            torch.div(a1, denominator, out=by_r)
            part, by_l = a1.mul_(a2).div_(denominator), a2.div_(denominator)
            torch.clamp(part, -1, 1, out=out[place])
            torch.div(part, b2, out=minus_by_q)
            minus_by_b1 = part.div_(b1)
            pairs = ((ux, uy, mx, my), (uy, ux, my, mx))
            for by_mean, pair in zip(by_means, compress(pairs, needed), strict=True):
                u_own, u_other, m_own, m_other = pair
                total = torch.mul(by_l, u_other, out=b1).addcmul_(minus_by_b1, u_own, value=-1)
                total.addcmul_(minus_by_q, m_own)
                torch.addcmul(total, by_r, m_other, value=-1, out=by_mean)
        ctx.window_mean = window_mean
        ctx.save_for_backward(x, y, shift, derivatives)
        return ssim

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y, shift, derivatives = ctx.saved_tensors
        xs, ys, grad = by_rows(x), by_rows(y), by_rows(grads[0])
        needed = ctx.needs_input_grad[:2]
        results = [
            torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(sum(needed))
        ]
        for strip in ctx.window_mean.strips(xs, derivatives.shape[1]):
            source, place = (strip.source, strip.images), (strip.rows, strip.images)
            weights = grad[source].unsqueeze(1)
            torch.mul(derivatives[strip.source, :, strip.images], weights, out=strip.maps)
            means, free = (maps.unbind(1) for maps in strip.filter())
            minus_to_q, to_r, *to_means = means
            level = shift[:, strip.images]
            xy = [torch.sub(of[place], level, out=to) for of, to in ((xs, free[0]), (ys, free[1]))]
            for result, to_mean, (own, other) in zip(
                results, to_means, compress((xy, xy[::-1]), needed), strict=True
            ):
                to_mean.addcmul_(own, minus_to_q, value=-1)
                torch.addcmul(to_mean, other, to_r, out=by_rows(result)[place])
        remaining = iter(results)
        return (*(next(remaining) if need else None for need in needed), None, None, None)


def _moments(x: Tensor, y: Tensor, shift: Tensor, out: _Outputs) -> list[Tensor]:
    """What the window means are taken of: x, y, xy and (x - y)² of shifted images."""
    xs, ys = torch.sub(x, shift, out=out[0]), torch.sub(y, shift, out=out[1])
    product = torch.mul(xs, ys, out=out[2])
    difference = torch.sub(xs, ys, out=out[3])
    return [xs, ys, product, torch.square(difference, out=out[3])]


def _brackets(
    means: Sequence[Tensor], shift: Tensor, c1: float, c2: float, out: _Outputs
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Half of each bracket of eq. (8): two of the numerator, two of the denominator.

    `means` are those of the `_moments`. Since x² + y² is 2xy + (x - y)², each b is its a plus
    the distance of the images: the map is exactly 1 where they agree, and loses no digits near
    it. `out` takes μx and μy of the images as they are, a1, b1, a2 and b2.
    """
    mx, my, r, distance = means
    ux, uy = torch.add(mx, shift, out=out[0]), torch.add(my, shift, out=out[1])
    a1 = torch.mul(ux, uy, out=out[2]).add_(c1 / 2)
    squared_mean = torch.square(torch.sub(mx, my, out=out[3]), out=out[3])
    a2 = torch.addcmul(r, mx, my, value=-1, out=out[4]).add_(c2 / 2)
    variance = torch.sub(distance, squared_mean, out=out[5])
    variance = torch.clamp(variance, min=0, out=out[5])
    b1 = torch.add(a1, squared_mean, alpha=0.5, out=out[3])
    b2 = torch.add(a2, variance, alpha=0.5, out=out[5])
    return a1, a2, b1, b2


def _traceable_ssim(x: Tensor, y: Tensor, window_mean: WindowMean, c1: float, c2: float) -> Tensor:
    """`_SSIM` in operations that torch can follow, of any derivative."""
    shift = x.mean(dim=(-2, -1), keepdim=True)
    fresh = (None,) * 6
    means = window_mean(torch.stack(_moments(x, y, shift, fresh))).unbind(0)
    a1, a2, b1, b2 = _brackets(means, shift, c1, c2, fresh)
    return (a1 * a2 / (b1 * b2)).clamp(-1, 1)


def _components(
    x: Tensor, y: Tensor, window_mean: WindowMean, c1: float, c2: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Eqs. (5) to (7), through autograd."""
    shift = x.detach().mean(dim=(-2, -1), keepdim=True)
    xs, ys = x - shift, y - shift
    difference = xs - ys
    moments = torch.stack([xs, ys, xs * xs, ys * ys, difference * difference])
    if isinstance(window_mean, TraceableWindowMean):
        means = window_mean(moments)
    else:
        means = _Filter.apply(moments, window_mean)
    mx, my, mxx, myy, distance = means
    sigma_x = ((mxx - mx * mx).clamp(min=0) + _VARIANCE_EPS).sqrt()
    sigma_y = ((myy - my * my).clamp(min=0) + _VARIANCE_EPS).sqrt()
    # Each is 1 minus what it lacks of 1: exactly 1 for identical windows, never more, and
    # no digits are lost near it. The variance of x - y is (σx - σy)² + 2 (σx σy - σxy).
    product = 2 * sigma_x * sigma_y
    by_contrast = (sigma_x - sigma_y).square()
    by_structure = (distance - (mx - my).square() - by_contrast).clamp(min=0)
    by_structure = torch.minimum(by_structure, 2 * product)
    ux, uy = mx + shift, my + shift
    luminance = 1 - (ux - uy).square() / (ux * ux + uy * uy + c1)
    contrast = 1 - by_contrast / (product + by_contrast + c2)
    structure = 1 - by_structure / (product + c2)
    return luminance, contrast, structure


def _signed_power(base: Tensor, exponent: float) -> Tensor:
    """`base` to a power, with the rule of `ssim_map`'s Notes for other than whole numbers."""
    if exponent == 1:
        return base
    if float(exponent).is_integer():
        return base ** int(exponent)
    magnitude = (base * base + _POWER_EPS) / (1 + _POWER_EPS)
    return base * magnitude ** ((exponent - 1) / 2)


def _check_parameters(
    window_size: int,
    window: str,
    sigma: float,
    c1: float,
    c2: float,
    alpha: float,
    beta: float,
    gamma: float,
) -> None:
    if not isinstance(window_size, (int, np.integer)) or window_size < 1 or window_size % 2 == 0:
        raise ValueError(f"window_size must be an odd integer of at least 1, got {window_size!r}.")
    if window not in ("uniform", "gaussian"):
        raise ValueError(f"window must be 'uniform' or 'gaussian', got {window!r}.")
    for name, value in (("sigma", sigma), ("c1", c1), ("c2", c2)):
        if not value > 0:
            raise ValueError(f"{name} must be greater than 0, got {value!r}.")
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if not value >= 0:
            raise ValueError(f"{name} must be at least 0, got {value!r}.")


def _as_tensors(x: np.ndarray | Tensor, y: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(x, Tensor) != isinstance(y, Tensor):
        raise TypeError(
            "x and y must be two arrays or two tensors, "
            f"got {type(x).__name__} and {type(y).__name__}."
        )
    a, b = _as_tensor(x, "x"), _as_tensor(y, "y")
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(
            "x and y must be images (..., h, w) of one shape, "
            f"got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    if a.numel() == 0:
        raise ValueError(f"x and y hold no pixels: their shape is {tuple(a.shape)}.")
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return a.to(dtype), b.to(dtype)


def _as_tensor(image: np.ndarray | Tensor, name: str) -> Tensor:
    if not isinstance(image, Tensor):
        array = np.asarray(image)
        if array.dtype.kind == "f":
            native = np.promote_types(array.dtype.newbyteorder("="), np.float32)
            # torch can hold no read-only, mirrored or long double memory.
            dtype = min(native, np.dtype(np.float64))
            copied = array.astype(dtype, order="C", copy=not array.flags.writeable)
            image = torch.from_numpy(copied)
        else:
            raise TypeError(_not_floating(name, array.dtype))
    if not image.is_floating_point():
        raise TypeError(_not_floating(name, image.dtype))
    return image


def _not_floating(name: str, dtype: object) -> str:
    return (
        f"{name} must hold floating-point values in [0, 1], got {dtype}. "
        "Divide 8-bit images by 255.0 first."
    )


def _like(result: Tensor, given: np.ndarray | Tensor) -> Any:
    return result if isinstance(given, Tensor) else result.numpy()
