"""How node pools get more nodes and fewer: one adapter a file, all behind one protocol, all in one registry."""
