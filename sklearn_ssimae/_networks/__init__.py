"""The networks, how they run and how they are stored. Pure torch: no scikit-learn, no files."""
