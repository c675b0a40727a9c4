"""One pass through the network gives what `transform` and `reconstruct` give."""

import numpy as np
import pytest
from inspection_reports import fitted, stripes_with_spots

from sklearn_ssimae import L2AutoencoderDetector, SSIMAutoencoderDetector, VAEDetector
from sklearn_ssimae.inspection._report.seeing import see

IMAGES, _ = stripes_with_spots(4)


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (L2AutoencoderDetector, {}),
        (SSIMAutoencoderDetector, {"scale": 0.7, "window_size": 7}),
        (L2AutoencoderDetector, {"aggregate": "residual"}),
        (VAEDetector, {"n_latent_samples": 2}),
    ],
    ids=["plain", "scaled", "residuals", "vae"],
)
@pytest.mark.parametrize("form", ["grey", "float64", "colour", "list"])
def test_maps_and_reconstructions(make, parameters, form):
    X = {
        "grey": IMAGES,
        "float64": IMAGES / 255 + 1e-9,
        "colour": np.repeat(IMAGES[..., None], 3, axis=-1),
        "list": [image[: 20 + index] for index, image in enumerate(IMAGES)],
    }[form]
    detector = fitted(X, make, **parameters)
    seen = list(see(detector, detector._check_fitted_input(X)))
    expected = zip(X, detector.transform(X), detector.reconstruct(X), strict=True)
    for found, (image, residual, redrawn) in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(found.image, image.reshape(found.image.shape))
        np.testing.assert_array_equal(found.residual, residual)
        assert found.residual.dtype == residual.dtype
        reconstruction = found.reconstruction(detector)
        assert reconstruction.dtype == redrawn.dtype
        np.testing.assert_allclose(
            reconstruction.reshape(redrawn.shape), redrawn, rtol=1e-5, atol=1e-4
        )
