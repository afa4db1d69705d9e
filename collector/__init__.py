"""The node: tails log files and ships their bytes, acknowledged before bookmarked."""
