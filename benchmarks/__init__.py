"""Measurements, each a ratio to something that everybody knows, taken in the same run on the same machine."""
