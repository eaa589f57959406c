"""Source detectors by every recipe on rendered domains at graded distance."""
