"""From the bus to the archive and the index: two consumers that never wait for each other."""
