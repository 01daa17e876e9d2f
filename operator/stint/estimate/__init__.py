"""How long work takes on what."""
