"""Where figures come from: the tables that ship with the package, and whatever is read from outside."""
