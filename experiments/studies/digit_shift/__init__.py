"""Handwritten digits of two collections: a shift that nobody rendered."""
