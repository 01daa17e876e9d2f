"""What others make pods with, as far as Stint places those: one kind a file, all in one registry."""
