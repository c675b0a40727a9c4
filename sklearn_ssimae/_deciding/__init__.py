"""From reconstructions of kept images to a map's settings and a threshold; knows no estimator."""
