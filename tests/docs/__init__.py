"""Tests of the pages for people: what they name exists, what they quote is said."""
