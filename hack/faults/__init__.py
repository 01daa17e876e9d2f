"""Faults on purpose: a gateway that answers for the API server as it pleases, and operators that are killed."""
