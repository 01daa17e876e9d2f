"""Carrying a plan out at the API server, one idempotent write after the other."""
