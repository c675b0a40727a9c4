"""Transposed convolutions in forms that are fast on a CPU.

oneDNN, which torch calls there, is slow at two of their parts: the gradient of the bias of a
large map takes longer than all the other gradients together, and an output of few channels
leaves most lanes of its kernels empty. Elsewhere, and where a tracer follows, torch's own
layer is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight


class Deconvolution(nn.ConvTranspose2d):
    """torch's layer, with the bias added apart while gradients are wanted."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Maps (n, in, h, w) to (n, out, h', w')."""
        if _uses_torch(x) or not torch.is_grad_enabled():
            return super().forward(x, output_size)
        assert self.bias is not None
        out = F.conv_transpose2d(x, self.weight, None, self.stride, self.padding)  # type: ignore[arg-type]
        # Both in one precision: a sum of mixed ones would be copied to the wider and back.
        return out.add_(self.bias[:, None, None].to(out.dtype))


class Doubling(nn.ConvTranspose2d):
    """Maps of twice the size and of few channels: kernel 4, stride 2, padding 1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Maps (n, in, h, w) to (n, out, 2h, 2w), in float32."""
        if _uses_torch(x):
            return super().forward(x, output_size)
        doubled: Tensor = _Doubling.apply(x, self.weight, self.bias)
        return doubled


class _Doubling(torch.autograd.Function):
    """One matrix product for the taps of all pixels, and sums of shifted planes.

    An output pixel gets four of the kernel's sixteen taps. Even rows take tap 1 of the pixel
    at hand and tap 3 of the one above, odd rows tap 2 of it and tap 0 of the one below; the
    same holds for columns.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        n, n_in, height, width = x.shape
        n_out = weight.shape[1]
        by_tap = weight.permute(2, 3, 1, 0).reshape(-1, n_in).to(x.dtype)
        pixels = x.permute(0, 2, 3, 1).reshape(-1, n_in)
        taps = torch.mm(by_tap, pixels.T).float().view(4, 4, n_out, n, height, width)
        taps[1, ..., 1:, :] += taps[3, ..., :-1, :]
        taps[2, ..., :-1, :] += taps[0, ..., 1:, :]
        rows = taps[1:3]
        rows[:, 1, ..., 1:] += rows[:, 3, ..., :-1]
        rows[:, 2, ..., :-1] += rows[:, 0, ..., 1:]
        interleaved = rows[:, 1:3].permute(3, 2, 4, 0, 5, 1).contiguous()
        return interleaved.view(n, n_out, 2 * height, 2 * width).add_(bias[:, None, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # The adjoint is a convolution, which oneDNN is fast at.
        x, weight = ctx.saved_tensors
        grad = grads[0].to(x.dtype, memory_format=torch.channels_last)
        to_x = F.conv2d(grad, weight.to(x.dtype), None, 2, 1)
        to_weight = conv2d_weight(grad, weight.shape, x, 2, 1).to(weight.dtype)
        return to_x, to_weight, grads[0].sum(dim=(0, 2, 3))


def _uses_torch(x: Tensor) -> bool:
    return x.device.type != "cpu" or torch.compiler.is_compiling()
