"""torch's state as this package needs it, whatever the user or another library has set.

Gradients, inference mode, autocast and the default device are set for a thread, so they can be set
for a while. The default dtype belongs to all threads: it stays as it is, and whatever makes
a tensor here names the dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def own_state() -> Iterator[None]:
    """Gradients on, no inference mode, no autocast, new tensors on the CPU.

    Also a decorator. The state is as it was afterwards. Not for generators: the code that they
    yield to would run in this state, too.
    """
    with ExitStack() as stack:
        # Tensors made in inference mode could not be trained on later.
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        # Only where it is needed, since torch then runs Python code for every operation.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
