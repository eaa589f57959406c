"""Tests of the top floor: the command line and its verbs."""
