"""The sub-commands of ``mtrrzap``, one module each."""
