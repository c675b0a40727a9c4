import copy
import pickle

import numpy as np
import pytest
import torch
from skimage import data
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.utils.flop_counter import FlopCounterMode

from sklearn_ssimae._networks.autoencoders import (
    Autoencoder,
    Decoder,
    Encoder,
    VariationalAutoencoder,
)
from sklearn_ssimae._networks.devices import to_channels_last
from sklearn_ssimae._networks.storage import network_from_arrays, network_to_arrays

PATCH_SIZES = [16, 32, 64, 128, 256]
# Table 1 of the paper, generalised: sides of a patch p are p / this, and channels.
ENCODED = [(2, 32), (4, 32), (4, 32), (8, 64), (8, 64), (16, 128), (16, 64), (16, 32)]
DECODED = [(16, 32), (16, 64), (16, 128), (8, 64), (8, 64), (4, 32), (4, 32), (2, 32)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def crops(image, patch_size, n_patches):
    """Random crops (n, c, p, p) of an 8-bit image, in [0, 1]."""
    planes = torch.from_numpy(np.atleast_3d(image) / 255).float().permute(2, 0, 1)
    rng = np.random.default_rng(0)
    corners = rng.integers(np.array(planes.shape[1:]) - patch_size + 1, size=(n_patches, 2))
    return torch.stack([planes[:, y : y + patch_size, x : x + patch_size] for y, x in corners])


def make_autoencoder(patches, latent_dim=10, seed=0):
    _, n_channels, patch_size, _ = patches.shape
    network = Autoencoder(n_channels=n_channels, patch_size=patch_size, latent_dim=latent_dim)
    network.initialize(patches, generator(seed))
    return network


def make_vae(patches, latent_dim=10, n_latent_samples=6):
    _, n_channels, patch_size, _ = patches.shape
    network = VariationalAutoencoder(
        n_channels=n_channels,
        patch_size=patch_size,
        latent_dim=latent_dim,
        n_latent_samples=n_latent_samples,
    )
    network.initialize(patches, generator())
    return network


def layer_outputs(network, *args):
    """Outputs of the convolutions, in order."""
    outputs = []
    hooks = [
        module.register_forward_hook(lambda module, args, output: outputs.append(output))
        for module in network.modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    with torch.no_grad():
        network(*args)
    for hook in hooks:
        hook.remove()
    return outputs


# Shapes -------------------------------------------------------------------------------


@pytest.mark.parametrize("patch_size", PATCH_SIZES)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_layers_have_the_shapes_of_the_table(patch_size, n_channels):
    with torch.device("meta"):
        network = Autoencoder(n_channels=n_channels, patch_size=patch_size, latent_dim=100)
        outputs = layer_outputs(network, torch.empty(2, n_channels, patch_size, patch_size))
    expected = [
        *((2, channels, patch_size // by, patch_size // by) for by, channels in ENCODED),
        (2, 100, 1, 1),
        *((2, channels, patch_size // by, patch_size // by) for by, channels in DECODED),
        (2, n_channels, patch_size, patch_size),
    ]
    assert [tuple(output.shape) for output in outputs] == expected


def test_layers_have_the_kernels_of_the_table():
    with torch.device("meta"):
        network = Autoencoder(n_channels=1, patch_size=128, latent_dim=100)
    kernels = [
        (
            nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.ConvTranspose2d,
            layer.kernel_size[0],
            layer.stride[0],
            layer.padding[0],
        )
        for layer in [*network.encoder, *network.decoder]
        if not isinstance(layer, nn.LeakyReLU)
    ]
    encoder = [(4, 2, 1), (4, 2, 1), (3, 1, 1), (4, 2, 1), (3, 1, 1), (4, 2, 1), (3, 1, 1)]
    decoder = [(3, 1, 1), (3, 1, 1), (4, 2, 1), (3, 1, 1), (4, 2, 1), (3, 1, 1), (4, 2, 1)]
    assert kernels == [
        *((nn.Conv2d, *sizes) for sizes in [*encoder, (3, 1, 1), (8, 1, 0)]),
        *((nn.ConvTranspose2d, *sizes) for sizes in [(8, 1, 0), *decoder, (4, 2, 1)]),
    ]


def test_cost_of_a_patch():
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = Autoencoder(n_channels=1, patch_size=128, latent_dim=100)
        network(torch.empty(1, 1, 128, 128))
    assert counter.get_total_flops() == pytest.approx(0.2425e9, rel=1e-3)


@pytest.mark.parametrize("part", [Encoder, Decoder])
def test_leaky_slope_after_all_layers_but_the_last(part):
    with torch.device("meta"):
        part = part(7, 32, 5)
    assert isinstance(part[-1], (nn.Conv2d, nn.ConvTranspose2d))
    activations = [layer for layer in part if isinstance(layer, nn.LeakyReLU)]
    assert [activation.negative_slope for activation in activations] == [0.2] * 8
    assert list(part)[1:-1:2] == activations


# Initialisation -----------------------------------------------------------------------

NETWORKS = [make_autoencoder, make_vae]


@pytest.mark.parametrize("make", NETWORKS)
def test_initialisation_draws_from_its_generator_alone(make):
    patches = crops(data.brick(), 32, 4)
    network = make(patches)
    state = torch.get_rng_state()
    weights = []
    for seed in (0, 0, 1):
        network.initialize(patches, generator(seed))
        weights.append(copy.deepcopy(network.state_dict()))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["encoder.0.weight"], weights[2]["encoder.0.weight"])


@pytest.mark.parametrize("make", NETWORKS)
def test_initialisation_overwrites_everything(make):
    patches = crops(data.brick(), 32, 4)
    network = make(patches)
    for tensor in network.state_dict().values():
        tensor.fill_(torch.nan)
    network.initialize(patches, generator())
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())


IMAGES = [data.brick(), data.gravel(), data.astronaut()]


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("patch_size", PATCH_SIZES[:-1])
@pytest.mark.parametrize("latent_dim", [10, 500])
def test_the_signal_keeps_its_scale_up_to_the_latent_space(image, patch_size, latent_dim):
    # torch's default initialisation ends at a thousandth of it.
    patches = crops(image, patch_size, 4)
    for seed in range(3):
        *hidden, latent = layer_outputs(make_autoencoder(patches, latent_dim, seed), patches)[:9]
        # Of each pair one is scaled by the slope. The padding, of 0, adds most to small patches.
        assert all(0.6 < values.std() < 2 for values in [*hidden, latent])


def convolutions(layers):
    return [layer for layer in layers if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))]


@pytest.mark.parametrize("latent_dim", [10, 500])
def test_no_direction_starts_weaker_than_another(latent_dim):
    network = make_autoencoder(crops(data.brick(), 64, 4), latent_dim)
    for layer in convolutions(network.encoder):
        strengths = torch.linalg.svdvals(layer.weight.detach().flatten(1))
        # The other half of a pair says nothing new.
        strengths = strengths[strengths > 1e-4 * strengths[0]]
        assert 2 * len(strengths) >= min(layer.weight.flatten(1).shape)
        torch.testing.assert_close(strengths, strengths[:1].expand_as(strengths))


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("image", IMAGES)
def test_a_network_begins_affine(make, image):
    network = make(crops(image, 64, 8))

    def reconstruct(patches):
        latent = network.encoder(patches)[:, :10]
        return network.decoder(latent)[:, : patches.shape[1]]

    one, other = crops(image, 64, 8).split(4)
    with torch.no_grad():
        # Far larger than the rounding.
        assert (reconstruct(one) - reconstruct(other)).abs().max() > 1e-3
        mixed = reconstruct(3 * one - 2 * other)
        expected = 3 * reconstruct(one) - 2 * reconstruct(other)
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("patch_size", PATCH_SIZES[:-1])
def test_reconstructions_begin_nearer_than_the_mean_colour(image, patch_size):
    patches = crops(image, patch_size, 8)
    network = make_autoencoder(patches, 100)
    with torch.no_grad():
        left = (network(patches) - patches).square().mean()
    assert left < (patches - patches.mean(dim=(0, 2, 3), keepdim=True)).square().mean()


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("image", [data.brick(), data.astronaut()])
def test_the_decoder_starts_as_the_mirror_of_the_encoder(make, image):
    network = make(crops(image, 32, 4))
    pairs = zip(convolutions(network.encoder), reversed(convolutions(network.decoder)), strict=True)
    for layer, mirror in pairs:
        weight = mirror.weight[:, : layer.in_channels]
        mirrored = layer.weight[: mirror.in_channels]
        factor = weight.norm() / mirrored.norm()
        torch.testing.assert_close(weight, factor * mirrored)
        assert not mirror.weight[:, layer.in_channels :].any()


@pytest.mark.parametrize("patch_size", PATCH_SIZES[:-1])
def test_patches_differ_at_the_output_from_the_start(patch_size):
    patches = crops(data.brick(), patch_size, 8)
    network = make_autoencoder(patches)
    with torch.no_grad():
        reconstructions = network(patches)
    assert reconstructions.std(dim=0).mean() > 0


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("image", [data.brick(), data.astronaut()])
def test_the_decoder_starts_at_the_mean_colour(make, image):
    patches = crops(image, 32, 8)
    network = make(patches)
    with torch.no_grad():
        decoded = network.decoder(torch.zeros(2, 10, 1, 1))[:, : patches.shape[1]]
    expected = patches.mean(dim=(0, 2, 3))[None, :, None, None].expand_as(decoded)
    torch.testing.assert_close(decoded, expected)


# Variational autoencoder --------------------------------------------------------------


@pytest.mark.parametrize("image", [data.brick(), data.astronaut()])
@pytest.mark.parametrize("patch_size", [16, 64])
@pytest.mark.parametrize("n_draws", [1, 6])
@pytest.mark.parametrize("shared", [True, False])
def test_vae_shapes(image, patch_size, n_draws, shared):
    patches = crops(image, patch_size, 3)
    network = make_vae(patches)
    noise = torch.randn(n_draws, 1 if shared else 3, 10, generator=generator())
    mean, variance, divergence = network(patches, noise)
    assert mean.shape == variance.shape == (n_draws, *patches.shape)
    assert divergence.shape == (3,)


def test_vae_draws_follow_the_noise():
    patches = crops(data.brick(), 32, 3)
    network = make_vae(patches).eval()
    noise = torch.randn(4, 1, 10, generator=generator())
    with torch.no_grad():
        mean, variance, _ = network(patches, noise)
        for index in range(4):
            alone = network(patches, noise[index : index + 1])
            torch.testing.assert_close(mean[index], alone[0][0])
            torch.testing.assert_close(variance[index], alone[1][0])
    assert not torch.allclose(mean[0], mean[1])


def test_vae_divergence_is_that_of_the_latent_normal():
    patches = crops(data.astronaut(), 32, 5)
    network = make_vae(patches)
    nn.init.normal_(network.encoder[-1].weight, 0, 0.1, generator=generator())
    *_, divergence = network(patches, torch.zeros(1, 1, 10))
    mu, log_variance = network.encoder(patches).flatten(1).chunk(2, dim=1)
    latent = Normal(mu, (0.5 * log_variance).exp())
    expected = kl_divergence(latent, Normal(torch.zeros(10), torch.ones(10))).sum(dim=1)
    torch.testing.assert_close(divergence, expected)
    assert (divergence >= 0).all()


def test_vae_divergence_of_the_prior_is_0():
    patches = crops(data.brick(), 32, 2)
    network = make_vae(patches)
    for parameter in network.encoder[-1].parameters():
        nn.init.zeros_(parameter)
    assert (network(patches, torch.zeros(1, 1, 10))[2] == 0).all()


@pytest.mark.parametrize("latent_bias", [-1e6, 1e6])
@pytest.mark.parametrize("pixel_bias", [-1e6, 1e6])
def test_vae_variances_are_bounded(latent_bias, pixel_bias):
    patches = crops(data.brick(), 32, 2)
    network = make_vae(patches)
    with torch.no_grad():
        network.encoder[-1].bias[10:] = latent_bias
        network.decoder[-1].bias[1:] = pixel_bias
        mean, variance, divergence = network(patches, torch.zeros(1, 1, 10))
    assert variance.min() >= 1e-4
    for values in (mean, variance, divergence):
        assert torch.isfinite(values).all()
    if pixel_bias < 0:
        torch.testing.assert_close(variance, torch.full_like(variance, 1e-4))


@pytest.mark.parametrize("image", [data.brick(), data.astronaut()])
def test_vae_starts_at_the_variance_of_the_data(image):
    patches = crops(image, 32, 8)
    with torch.no_grad():
        _, variance, _ = make_vae(patches)(patches, torch.zeros(1, 1, 10))
    expected = patches.var(dim=(0, 2, 3), correction=0)[None, None, :, None, None]
    torch.testing.assert_close(variance, expected.expand_as(variance), rtol=0, atol=3e-4)


def test_vae_of_flat_patches_is_finite():
    patches = torch.full((4, 1, 32, 32), 0.5)
    mean, variance, divergence = make_vae(patches)(patches, torch.zeros(1, 1, 10))
    loss = (0.5 * (patches - mean[0]).square() / variance[0] + variance[0].log()).mean()
    (loss + divergence.mean()).backward()
    assert torch.isfinite(loss)


def test_vae_noise_is_standard_normal():
    noise = make_vae(crops(data.brick(), 32, 2), latent_dim=200, n_latent_samples=50).noise
    assert noise.shape == (50, 200)
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05


# Storage ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", NETWORKS)
def test_network_is_rebuilt_from_arrays(make):
    network = to_channels_last(make(crops(data.astronaut(), 32, 4)))
    stored = pickle.loads(pickle.dumps(network_to_arrays(network)))
    assert all(type(array) is np.ndarray for array in stored["weights"].values())
    state = torch.get_rng_state()
    rebuilt = network_from_arrays(type(network), stored)
    assert torch.equal(torch.get_rng_state(), state)
    assert not rebuilt.training and rebuilt.config == network.config
    for name, tensor in network.state_dict().items():
        other = rebuilt.state_dict()[name]
        assert torch.equal(other, tensor) and other.stride() == tensor.stride()
    stored["weights"]["encoder.0.bias"][:] = 7
    assert torch.equal(rebuilt.encoder[0].bias, network.encoder[0].bias)
