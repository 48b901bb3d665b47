"""What must hold: one module a property."""
