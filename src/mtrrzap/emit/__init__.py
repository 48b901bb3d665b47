"""A protocol as C: translated from the text that the checker checks.

``translate`` turns the generator functions into C functions, ``objects`` holds the C of the shared
objects, ``source`` puts a file together. See docs/emit.md.
"""
