"""The command line's sub-commands, one module each: read, call the core, print."""
