"""Residual maps: how they are computed from images and their reconstructions."""
