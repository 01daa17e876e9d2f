"""Builders of situations and suites that every solver and every pool adapter must pass. For tests and benchmarks."""
