<<<<<<< HEAD
"""What the core found, as tables: rows first, then text, JSON or CSV made from the rows."""
=======
"""Render what the engines found, for people and for other programs."""
>>>>>>> check
