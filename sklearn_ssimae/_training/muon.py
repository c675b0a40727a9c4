"""Muon: gradient steps that move all directions of a weight matrix alike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_MOMENTUM = 0.95
# Coefficients of the quintic X ↦ aX + bXXᵀX + c(XXᵀ)²X, which brings singular values from (0, 1]
# near 1 in few steps; near, not to: steeper at 0 than any that converges.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_N_STEPS = 5
# A step of a matrix has the size of one of Adam's: a root mean square of about this.
_ROOT_MEAN_SQUARE = 0.2
# Rows of a matrix that are made orthogonal together, at most. The work grows with their cube;
# the two latent layers, which have hundreds, would take longer than the gradient.
_MOST_ROWS = 128


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

    Notes
    -----
    With the momentum :math:`M = U \Sigma V^T` (Nesterov's, of factor 0.95) the step is
    :math:`-0.2\, lr\, \sqrt{\max(r, c)}\, U V^T` for a matrix of r rows and c columns [1]_. Kernels
    are taken as matrices of one row for each channel of the first axis. Matrices whose shorter
    side exceeds 128 are made orthogonal in blocks of rows. The iterations run on the Gram matrix
    of the shorter side, in float32.

    References
    ----------
    .. [1] K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024;
       the scale is that of J. Liu et al., "Muon is Scalable for LLM Training", 2025.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

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
                param.add_(scaled_orthogonal(update.flatten(1)).view_as(param), alpha=-group["lr"])

    def _momentum(self, param: Tensor) -> Tensor:
        state = self.state[param]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(param)
        momentum: Tensor = state["momentum"]
        return momentum


def scaled_orthogonal(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix, about, with a root mean square of about 0.2."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if is_tall else matrix
    n_blocks = math.ceil(len(wide) / _MOST_ROWS)
    blocks = [
        _ROOT_MEAN_SQUARE * math.sqrt(max(block.shape)) * _orthogonal(block)
        for block in wide.tensor_split(n_blocks)
    ]
    scaled = torch.cat(blocks)
    return scaled.T if is_tall else scaled


def _orthogonal(wide: Tensor) -> Tensor:
    """Newton-Schulz iterations of a matrix with no more rows than columns.

    Each of them is a polynomial of the Gram matrix times the matrix: the polynomials are
    multiplied, all in the small, and applied once.
    """
    a, b, c = _QUINTIC
    gram = wide @ wide.T
    # At least the square of the largest singular value.
    norm = gram.norm() + 1e-14
    gram /= norm
    product: Tensor | None = None
    for _ in range(_N_STEPS):
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        product = polynomial if product is None else polynomial @ product
        gram = polynomial @ gram @ polynomial
    assert product is not None
    return (product / norm.sqrt()) @ wide
