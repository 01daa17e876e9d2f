"""From what the API server shows to one frozen Situation. Reads, decides nothing, writes nothing."""
