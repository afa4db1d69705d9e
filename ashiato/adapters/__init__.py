"""Everything that does I/O, one driver each."""
