<<<<<<< HEAD
"""The command line's sub-commands, one module each: read, call the core, print."""
=======
"""The commands, one module each: they read arguments, call an engine, and print."""
>>>>>>> check
