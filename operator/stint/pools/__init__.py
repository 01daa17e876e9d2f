"""How pools are resized: one adapter a file, all behind one protocol."""
