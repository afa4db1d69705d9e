"""The pure heart: no clock, no socket, no file, no environment."""
