"""Accelerators by vendor: what their resources, node labels and shares are called. One vendor a file, one registry."""
