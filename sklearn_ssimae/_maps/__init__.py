"""From image and reconstruction to a residual map. Pure torch: no scikit-learn, no files."""
