"""From resources as people write them to the core's nouns, a kind a file. Every mistake is told at once."""
