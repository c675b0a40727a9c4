"""What a fit asks of a detector."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from sklearn_ssimae._deciding.calibration import Calibration
from sklearn_ssimae._detectors.kept import KeptParts
from sklearn_ssimae._images.collection import ImageCollection
from sklearn_ssimae._images.values import DataRange, Preparation
from sklearn_ssimae._maps.making import Comparison, MapMaker
from sklearn_ssimae._maps.settings import MapSettings
from sklearn_ssimae._networks.autoencoders import PatchNetwork
from sklearn_ssimae._training.trainer import Loss
from sklearn_ssimae._training.variation import Variation


class Trainee(Protocol):
    """A detector as its fit sees it: some parameters, what the fit sets, what it calls."""

    max_iter: int | None
    n_patches: int
    batch_size: int
    patch_size: int
    augment: bool
    learning_rate_init: float
    learning_rate: str
    weight_decay: float
    tol: float
    n_iter_no_change: int
    validation_fraction: float
    contamination: float | str
    threshold: float | None
    data_range: Any
    region: Any
    device: str
    precision: str
    warm_start: bool
    checkpoint: Any
    verbose: int
    random_state: Any

    network_: PatchNetwork
    n_iter_: int
    loss_curve_: list[float]
    trained_on_: dict[str, Any]
    data_range_: DataRange
    region_: np.ndarray | None
    _n_channels: int
    _seed_of_kept: int
    _trained_digests: np.ndarray
    lessons_: list[dict[str, Any]]
    _calibration: Calibration

    _network_class: ClassVar[type[PatchNetwork]]
    _residual_tells_length: ClassVar[bool]
    material_: str

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...
    def _init_callback_context(self, *, max_subtasks: int) -> Any: ...
    def _check_parameters(self) -> None: ...
    def _check_input(self, X: Any, *, reset: bool) -> ImageCollection: ...
    def _preparation(self) -> Preparation: ...
    def _variation(self) -> Variation | None: ...
    def _network_config(self, n_channels: int) -> dict[str, int]: ...
    def _make_loss(self, n_channels: int, device: torch.device, generator: Generator) -> Loss: ...
    def _make_comparison(self) -> Comparison: ...
    def _residual(self, images: Tensor, reconstructions: Tensor, **constants: Any) -> Tensor: ...
    def _training_constants(self) -> dict[str, float]: ...
    def _learns_from_kept(self) -> bool: ...
    def _uncalibrated(self) -> Calibration: ...
    def _calibrated(self, kept: KeptParts, *, rng: np.random.Generator) -> Calibration: ...
    def _depends_on(self, learnt: Calibration) -> dict[str, Any]: ...
    def _map_settings(self, learnt: Calibration) -> MapSettings: ...
    def _map_maker(self, settings: MapSettings) -> MapMaker: ...
    def _score_samples(self, images: ImageCollection, maker: MapMaker) -> np.ndarray: ...
