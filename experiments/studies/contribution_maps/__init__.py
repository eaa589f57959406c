"""Contribution maps of a VGG: jobs and what they measure."""
