"""
Score files and arrays on a dask cluster
========================================

A detector that was fitted here scores images on the processes of a dask cluster: files by
``client.map``, and a dask array block by block. Both give what this process alone would give.

    pip install sklearn-ssimae[dask]
    python examples/score_with_dask.py
"""

import tempfile
from pathlib import Path

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from PIL import Image
from skimage import data

from sklearn_ssimae import SSIMAutoencoderDetector


def cuts(n, side=128):
    """Parts of a texture; every fourth one has a scratch."""
    rng = np.random.default_rng(0)
    corners = rng.integers(512 - side, size=(n, 2))
    images = np.stack([data.gravel()[y : y + side, x : x + side] for y, x in corners])
    images[::4, 60:64, 20:100] = 255
    return images


def score_file(path, detector):
    return float(detector.score_samples([path])[0])


def main():
    images = cuts(16)
    detector = SSIMAutoencoderDetector(
        patch_size=64, n_patches=200, max_iter=10, stride=32, random_state=0
    ).fit(images, y=np.where(np.arange(16) % 4, 1, -1))

    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        # Files, which every worker must be able to read. The detector travels once to each.
        paths = [str(Path(folder, f"{index:03d}.png")) for index in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image).save(path)
        everywhere = client.scatter(detector, broadcast=True)
        scores = client.gather(client.map(score_file, paths, detector=everywhere))

        # An array in chunks of whole images. Nothing is computed before it is asked for.
        X = da.from_array(images, chunks=(4, -1, -1))
        maps, labels = detector.transform(X), detector.predict(X)
        print("lazy:", maps)
        labels = labels.compute()

    assert np.array_equal(scores, detector.score_samples(images))
    assert np.array_equal(labels, detector.predict(images))
    for path, score, label in zip(paths, scores, labels, strict=True):
        print(f"{Path(path).name}: score {score:.3f}, {'defect' if label == -1 else 'good'}")


if __name__ == "__main__":
    main()
