"""Explore every interleaving of a protocol, and say which properties hold."""
