"""The detectors, and what they are made of."""
