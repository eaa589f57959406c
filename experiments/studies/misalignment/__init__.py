"""Evolutions away from four references: where their nets look, and what became of the claims."""
