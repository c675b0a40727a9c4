"""
Score files and arrays on a dask cluster
========================================

A detector that was fitted here scores images on the processes of a dask cluster: files by
``client.map``, and a dask array block by block. Both give what this process alone would give.

    pip install "dask[array]" distributed
    python examples/score_with_dask.py
"""

import tempfile
from pathlib import Path

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from PIL import Image

from sklearn_ssimae import SSIMAutoencoderDetector
from sklearn_ssimae.datasets import make_fabric


def eight_bits(images):
    return (255 * images).round().astype(np.uint8)


def cloth():
    """Eight good pieces of cloth (16, 128, 128) and eight with a fault, and what they are."""
    good = make_fabric(8, size=128, random_state=1)
    faulty = make_fabric(8, size=128, defects=True, random_state=2)
    return eight_bits(np.concatenate([good.images, faulty.images])), good.kinds + faulty.kinds


def score_file(path, detector):
    return float(detector.score_samples([path])[0])


def main():
    images, kinds = cloth()
    detector = SSIMAutoencoderDetector(
        patch_size=32, latent_dim=50, n_patches=500, max_iter=10, random_state=0
    ).fit(eight_bits(make_fabric(16, size=128, random_state=0).images))

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
    for kind, score, label in zip(kinds, scores, labels, strict=True):
        print(f"{kind:<16} score {score:.2f}, {'defect' if label == -1 else 'good'}")


if __name__ == "__main__":
    main()
