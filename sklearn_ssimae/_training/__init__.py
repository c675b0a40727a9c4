"""From images to a trained network: crops, gradient steps, progress, checkpoints, processes."""
