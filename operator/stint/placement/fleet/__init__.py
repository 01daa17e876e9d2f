"""Thousands of jobs against everything that can be had, as arrays: columns, a fluid LP, whole nodes, a proof."""
