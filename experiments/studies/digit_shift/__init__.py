"""Handwritten digits of two collections: a shift that was not rendered."""
