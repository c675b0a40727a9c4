"""Networks as configurations and NumPy arrays, and back: what a stored detector holds of them."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch

from sklearn_ssimae._networks.autoencoders import PatchNetwork
from sklearn_ssimae._networks.devices import to_channels_last


def network_to_arrays(network: PatchNetwork) -> dict[str, Any]:
    """What rebuilds a network: its configuration, its weights as NumPy arrays, a checksum."""
    weights = {
        name: np.ascontiguousarray(tensor.detach().cpu().numpy())
        for name, tensor in network.state_dict().items()
    }
    return {"config": network.config, "weights": weights, "checksum": _checksum(weights)}


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
    tensors = {name: torch.tensor(array) for name, array in stored["weights"].items()}
    network.load_state_dict(tensors, assign=True)
    return to_channels_last(network).eval()


def _checksum(weights: dict[str, np.ndarray]) -> int:
    checksum = 0
    for name, array in weights.items():
        checksum = zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(name.encode(), checksum))
    return checksum
