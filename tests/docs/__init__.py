"""Tests of what the pages of `docs/` say."""
