"""A stand-in for dcgm-exporter: the same series for GPUs that are fake."""
