"""Where a network runs: the device, the precision, and memory that its kernels are fast in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sklearn_ssimae._networks.autoencoders import PatchNetwork


def to_channels_last(network: PatchNetwork) -> PatchNetwork:
    """The network in the memory format that torch's convolutions are fastest in."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def forward(network: nn.Module, precision: str, *args: Any) -> Any:
    """Outputs of a network in float32, computed in the given precision."""
    device = next(network.parameters()).device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        outputs = network(*args)
    if isinstance(outputs, Tensor):
        return outputs.float()
    return tuple(output.float() for output in outputs)


def to_device(patches: Tensor, network: nn.Module) -> Tensor:
    """Patches where the network is, in the memory format that its kernels are fastest in."""
    device = next(network.parameters()).device
    return patches.to(device, memory_format=torch.channels_last)


def keep_freed_memory() -> None:
    """Let the C library keep the memory that a batch frees for the next one.

    glibc gives large blocks back to the system as soon as they are freed, and all pages of a
    batch's activations would be mapped and zeroed anew. What it calls large follows the largest
    block freed so far, to at most 32 MiB (mallopt(3), M_MMAP_THRESHOLD). This one is not written
    to and takes no memory.
    """
    torch.UntypedStorage(31 * 2**20, device="cpu")


def choose_device(device: str) -> torch.device:
    """The device of a name; "auto" takes CUDA, then MPS, then the CPU."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.ones(1, device=chosen).item()
    except Exception as error:  # each backend that is missing raises an error of its own
        raise ValueError(
            f"device={device!r} cannot be used here: {str(error).splitlines()[0]}. "
            "Set device='auto' or 'cpu'."
        ) from error
    return chosen
