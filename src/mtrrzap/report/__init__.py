"""What the core found, as tables: rows first, then text, JSON or CSV made from the rows."""
