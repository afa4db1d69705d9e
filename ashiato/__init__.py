"""Ashiato: container logs that outlive their containers, and can prove it."""

__version__ = "0.1.0"
