"""Stint: GPU jobs where finishing costs least."""

__version__ = "0.1.0"
