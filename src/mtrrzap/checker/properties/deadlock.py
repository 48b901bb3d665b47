"""*No deadlock*: while a vCPU has a request left, some vCPU can make a step.

The search finds it: a state without successors in which not every vCPU has made all its requests.
"""

NAME = "deadlock"
FLAG = 16
