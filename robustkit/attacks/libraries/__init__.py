"""Attacks of other libraries by name, behind the contract of ours."""
