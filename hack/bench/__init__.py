"""Benchmarks: `python -m hack.bench NAME [--json]`. Figures are recorded in `hack/BENCHMARKS.md`."""
