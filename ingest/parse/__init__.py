"""Parsers: one per format, each told bytes and returning columns. None of them ever stops on what it is given."""
