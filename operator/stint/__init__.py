"""Stint: GPU jobs where finishing costs least."""

__version__ = "0.2.0"
