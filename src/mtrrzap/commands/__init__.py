"""The commands, one module each: they read arguments, call an engine, and print."""
