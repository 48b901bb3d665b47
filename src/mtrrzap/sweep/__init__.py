"""``sweep``: thousands of cells of a grid, on this machine or on a cluster (docs/sweep.md).

A spec becomes a grid (``spec``, ``grid``); a cell is a frozen value, and a pure function makes it a
row (``simulated``, ``swarm``; ``worker``). Executors bring cells to workers (``local``,
``cluster``); one ``driver`` collects rows, and it alone writes them (``store``). ``query``,
``curves``, ``plot`` and ``page`` show results.
"""
