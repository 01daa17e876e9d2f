"""The operator: watches, one cycle for everybody, status, wiring."""
