"""Defect detection on textured surfaces with autoencoders, the scikit-learn way.

The names stand in `__init__.pyi`. Each is loaded when first used, as scikit-image does it: torch
and scikit-learn take seconds to import.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
