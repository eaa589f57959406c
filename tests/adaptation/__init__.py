"""Tests of detectors and domain shift."""
