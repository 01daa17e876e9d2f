"""Frozen nouns: what jobs, nodes, offerings, situations and plans are. Nothing here does anything."""
