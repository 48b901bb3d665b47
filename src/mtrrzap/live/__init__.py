"""``live``: a small virtual machine monitor whose vCPUs replay a trace (docs/live.md)."""
