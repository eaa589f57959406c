"""Input gradients and maps of nets trained plainly, adversarially and away from a reference."""
