"""One question, one answer: search, timeline and logs over tail, hot index and archive."""
