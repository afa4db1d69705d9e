"""The recorded incident, and its replay as a node would write it."""
