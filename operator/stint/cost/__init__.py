"""What a run costs until it is done: one small module a concern, added up in `stint.cost.finish`."""
