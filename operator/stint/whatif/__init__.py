"""What would be if: a situation with something changed, decided about by the same function, and compared."""
