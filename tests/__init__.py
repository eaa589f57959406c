"""The tests mirror the four packages."""
