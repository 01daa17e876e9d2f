"""What GPUs, nodes and places are and cost. Frozen nouns: reading files and clocks is for `stint.feeds`."""
