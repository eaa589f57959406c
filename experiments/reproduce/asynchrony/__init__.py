"""Searches on simulated workers whose trials last as long as their nets are large."""
