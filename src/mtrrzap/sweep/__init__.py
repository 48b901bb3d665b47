"""``sweep``: thousands of cells of a grid, on this machine or on a cluster (docs/sweep.md).

A spec becomes a grid (``spec``, ``grid``); a cell is described by a frozen value (``cell``), and a
pure function makes it a row (``simulated``, ``swarm``). Executors bring cells to workers
(``local``, ``cluster``), one driver (``run``) collects rows, and only it writes (``store``).
"""
