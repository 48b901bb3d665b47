"""Engines: each gives the operations of a protocol a meaning of its own."""
