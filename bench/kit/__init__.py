"""What the benchmarks share: a corpus, processes that are measured, and facts about the machine."""
