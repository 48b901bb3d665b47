"""Render what the engines found, for people and for other programs."""
