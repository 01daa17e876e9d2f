"""The resources people write, typed. `crds/` is generated from here; parsing turns them into the core's nouns."""
