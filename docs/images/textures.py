"""Measures and draws docs/textures.md: which textures suit an autoencoder?

The upper half of a texture of 512×512 pixels is learnt from. The lower half, in two pieces, gets
drawn defects, four times over::

    python docs/images/textures.py  # five minutes of one core
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import ndimage
from skimage import data
from sklearn.neighbors import NearestNeighbors

from sklearn_ssimae import L2AutoencoderDetector, SSIMAutoencoderDetector
from sklearn_ssimae._networks.features import load_feature_extractor
from sklearn_ssimae.datasets import add_synthetic_defects, make_fabric
from sklearn_ssimae.metrics import located_score, pixel_roc_auc_score

PICTURE = Path(__file__).with_suffix(".png")
SETTINGS = {"patch_size": 64, "n_patches": 1000, "max_iter": 15, "random_state": 0}
STRIDE = 8  # of EfficientNet-Lite0's first blocks


def textures():
    yield "cloth", (make_fabric(1, size=512, random_state=0).images[0] * 255).astype(np.uint8)
    for name in ("brick", "gravel", "grass"):
        yield name, getattr(data, name)()


def explained(images, reconstructions):
    """The share of the variance of good images that the reconstructions account for."""
    return 1 - np.mean((images / 255.0 - reconstructions / 255.0) ** 2) / np.var(images / 255.0)


class NearestFeatures:
    """How far are pretrained features from the nearest ones of good images?"""

    def __init__(self):
        self.extract = load_feature_extractor("efficientnet_lite0")

    def features(self, image):
        with torch.no_grad():
            features = self.extract(torch.as_tensor(image[None, None] / np.float32(255)))
        return features[0].flatten(1).T.numpy()

    def fit(self, good):
        found = np.concatenate([self.features(image) for image in good])
        self.neighbours = NearestNeighbors(n_neighbors=1).fit(found)
        return self

    def transform(self, images):
        shape = [side // STRIDE for side in images[0].shape]
        maps = []
        for image in images:
            distances = self.neighbours.kneighbors(self.features(image))[0].reshape(shape)
            maps.append(ndimage.gaussian_filter(ndimage.zoom(distances, STRIDE, order=1), STRIDE))
        return np.stack(maps)


def measure(texture):
    """What three detectors make of a texture, and images to show."""
    learnt = texture[None, :256]
    good = np.stack([texture[256:, :256], texture[256:, 256:]])
    images, masks = add_synthetic_defects(np.concatenate([good] * 4), random_state=0)
    ssim = SSIMAutoencoderDetector(**SETTINGS).fit(learnt)
    squared = L2AutoencoderDetector(**SETTINGS).fit(learnt)
    maps = ssim.transform(images)
    figures = {
        "explained": explained(good, squared.reconstruct(good)),
        "SSIM loss": ssim.loss_curve_[-1],
        "SSIM": pixel_roc_auc_score(masks, maps),
        "l2": pixel_roc_auc_score(masks, squared.transform(images)),
        "features": pixel_roc_auc_score(masks, NearestFeatures().fit(learnt).transform(images)),
    }
    located = located_score(masks, maps > ssim.threshold_)
    alarms = ssim.predict(good) == -1
    figures |= {"located of 8": 8 * located, "false alarms of 2": alarms.sum()}
    print(ssim.material_, "blur", ssim.map_blur_, "window", ssim.map_window_size_)
    shown = (images[0], ssim.reconstruct(images[:1])[0], maps[0] / ssim.threshold_, masks[0])
    return figures, shown


def draw(results):
    figure, axes = plt.subplots(3, len(results), figsize=(10, 8), layout="constrained")
    for column, (name, (figures, shown)) in zip(axes.T, results.items(), strict=True):
        image, reconstruction, residual, mask = shown
        column[0].imshow(image, cmap="gray", vmin=0, vmax=255)
        column[1].imshow(reconstruction, cmap="gray", vmin=0, vmax=255)
        picture = column[2].imshow(residual, cmap="cividis", vmin=0, vmax=2)
        column[2].contour(mask, levels=[0.5], colors="white", linewidths=1, linestyles="dashed")
        column[0].set_title(f"{name}: pixel ROC AUC {figures['SSIM']:.2f}", fontsize=11)
    for ax, label in zip(axes[:, 0], ("image", "redrawn", "map"), strict=True):
        ax.set_ylabel(label)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    bar = figure.colorbar(picture, ax=axes, location="bottom", shrink=0.5, aspect=50, extend="max")
    bar.set_label("map beside the threshold, which is 1; dashed: the defects")
    figure.savefig(PICTURE, dpi=90)


def main():
    torch.set_num_threads(1)
    results = {}
    for name, texture in textures():
        results[name] = measure(texture)
        cells = (f"{title} {value:.3f}" for title, value in results[name][0].items())
        print(f"{name}: {', '.join(cells)}", flush=True)
    draw(results)


if __name__ == "__main__":
    main()
