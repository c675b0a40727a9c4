"""Muon: gradient steps that move all directions of a weight matrix alike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_MOMENTUM = 0.95
# Coefficients of the quintics X ↦ aX + bXXᵀX + c(XXᵀ)²X that are applied one after another: of all
# three quintics they leave singular values from [0.001, 1] closest to 1. Divided by powers of
# 1.01, so that what rounding leads beyond 1 stays bounded.
_QUINTICS = (
    (8.2872 / 1.01, -23.5959 / 1.01**3, 17.3004 / 1.01**5),
    (4.1071 / 1.01, -2.9478 / 1.01**3, 0.5448 / 1.01**5),
    (3.9487 / 1.01, -2.9089 / 1.01**3, 0.5518 / 1.01**5),
)
# A step of a matrix has the size of one of Adam's: a root mean square of about this.
_ROOT_MEAN_SQUARE = 0.2
# Rows of a matrix that are made orthogonal together, at most: the work grows with their cube.
_MOST_ROWS = 512
# Added to norms, so that a gradient of zeros gives a step of zeros.
_TINY = 1e-30


class Muon(torch.optim.Optimizer):
    r"""Momentum, made orthogonal by Newton-Schulz iterations, as the step of a matrix.

    Parameters
    ----------
    params : iterable of Parameter
        Weights of two axes or more; all but the first count as one.
    lr : float
        Learning rate.
    weight_decay : float, default=0
        Share of a weight that is taken off at each step, times the learning rate.
    dtype : torch.dtype, default=torch.float32
        Of the matrix products that make a step orthogonal; momentum and weights keep theirs.

    Notes
    -----
    With the momentum :math:`M = U \Sigma V^T` (Nesterov's, of factor 0.95) the step is
    :math:`-0.2\, lr\, \sqrt{\max(r, c)}\, U V^T` for a matrix of r rows and c columns [1]_. Kernels
    are taken as matrices of one row for each channel of the first axis. Matrices whose shorter
    side exceeds 512 are made orthogonal in blocks of rows. Three iterations [2]_ run on the Gram
    matrix of the shorter side; more would not bear the rounding of bfloat16.

    References
    ----------
    .. [1] K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024;
       the scale is that of J. Liu et al., "Muon is Scalable for LLM Training", 2025.
    .. [2] N. Amsel et al., "The Polar Express: Optimal Matrix Sign Methods and Their Application
       to the Muon Algorithm", 2025.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; a parameter without a gradient stays as it is."""
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if not params:
                continue
            momenta = [self._momentum(param) for param in params]
            gradients = [param.grad for param in params]
            torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
            updates = torch._foreach_lerp(gradients, momenta, _MOMENTUM)
            for param, update in zip(params, updates, strict=True):
                param.mul_(1 - group["lr"] * group["weight_decay"])
                step = scaled_orthogonal(update.flatten(1), self._dtype)
                param.add_(step.view_as(param), alpha=-group["lr"])

    def _momentum(self, param: Tensor) -> Tensor:
        state = self.state[param]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(param)
        momentum: Tensor = state["momentum"]
        return momentum


def scaled_orthogonal(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest orthogonal matrix, about, with a root mean square of about 0.2."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if is_tall else matrix
    n_blocks = math.ceil(len(wide) / _MOST_ROWS)
    blocks = [
        _ROOT_MEAN_SQUARE * math.sqrt(max(block.shape)) * _orthogonal(block, dtype)
        for block in wide.tensor_split(n_blocks)
    ]
    scaled = torch.cat(blocks)
    return scaled.T if is_tall else scaled


def _orthogonal(wide: Tensor, dtype: torch.dtype) -> Tensor:
    """Newton-Schulz iterations of a matrix with no more rows than columns.

    Each of them is a polynomial of the Gram matrix times the matrix: the polynomials are
    multiplied, all in the small, and applied once.
    """
    # Of norm 1, so that no small gradient is lost in a format of few bits.
    unit = (wide / (wide.norm() + _TINY)).to(dtype)
    gram = unit @ unit.T
    # At least the square of the largest singular value.
    norm = gram.norm() + _TINY
    gram = gram / norm
    product = _polynomial(gram, *_QUINTICS[0])
    polynomial = product
    for coefficients in _QUINTICS[1:]:
        gram = polynomial @ gram @ polynomial
        polynomial = _polynomial(gram, *coefficients)
        product = polynomial @ product
    return ((product / norm.sqrt()) @ unit).to(wide.dtype)


def _polynomial(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """The matrix a + b G + c G² of a Gram matrix G."""
    polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    polynomial.diagonal().add_(a)
    return polynomial
