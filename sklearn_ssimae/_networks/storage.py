"""Networks as configurations and NumPy arrays, and back: what a stored detector holds of them."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_ssimae._networks.autoencoders import PatchNetwork
from sklearn_ssimae._networks.own_state import own_state


def network_to_arrays(network: PatchNetwork) -> dict[str, Any]:
    """What rebuilds a network: its configuration, its weights as NumPy arrays, a checksum."""
    weights = {
        name: np.ascontiguousarray(tensor.detach().cpu().numpy())
        for name, tensor in network.state_dict().items()
    }
    return {"config": network.config, "weights": weights, "checksum": _checksum(weights)}


@own_state()
def network_from_arrays(network_class: type[PatchNetwork], stored: dict[str, Any]) -> PatchNetwork:
    """The network of `network_to_arrays`, on the CPU, ready to predict."""
    if stored.get("checksum") not in (None, _checksum(stored["weights"])):
        raise ValueError(
            "The stored weights are damaged: they do not match their checksum. Load another copy "
            "of the file, or fit the detector anew."
        )
    # On the meta device no weights are drawn: the global generator is left alone.
    with torch.device("meta"):
        network = network_class(**stored["config"])
    tensors = {name: _to_tensor(array) for name, array in stored["weights"].items()}
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def _to_tensor(array: np.ndarray) -> Tensor:
    """A copy of the array; kernels in channels-last format, as `to_channels_last` makes them.

    torch would fill and copy large tensors by its threads. Where they have run, a process that is
    forked waits for them for ever. So the memory is torch's, and NumPy writes it.
    """
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    memory_format = torch.channels_last if array.ndim == 4 else torch.contiguous_format
    layout = torch.empty(array.shape, dtype=dtype, device="meta", memory_format=memory_format)
    storage = torch.UntypedStorage(array.nbytes, device="cpu")
    tensor = torch.empty(0, dtype=dtype, device="cpu")
    tensor.set_(storage, 0, layout.shape, layout.stride())
    tensor.numpy()[...] = array
    return tensor


def _checksum(weights: dict[str, np.ndarray]) -> int:
    checksum = 0
    for name, array in weights.items():
        checksum = zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(name.encode(), checksum))
    return checksum
