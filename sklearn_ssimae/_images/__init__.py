"""What X and y hold: containers, files, value ranges, labels. How input is read is decided here."""
