"""Prove a protocol for every number of vCPUs that ask for ever.

The method is view abstraction (Abdulla, Haziza, Holik, "All for the price of few", VMCAI 2013).
One vCPU is *watched*: it makes one call. All others are anonymous and ask for ever. The *control*
is the shared objects' values and the watched vCPU. A *view* is a control and the local states of
two others. A real configuration with any number of vCPUs is *covered* by a set of views if every
two of its others, with its control, are a view of the set. The set that is computed contains the
start and is closed under every step:

- the watched vCPU moves;
- one of the two others moves;
- a third one moves, if each pair of the three is a view with this control.

So it covers every configuration that any number of vCPUs can reach. If no view of it shows a
watched call that returns too early, no number of vCPUs can lose a zap. The set covers more than
what is reachable, so a view that shows a violation proves nothing: then a schedule is looked for
with few vCPUs, and without one the answer is *unknown*.

- ``steps``: what one vCPU can do, learned from the protocol.
- ``alike``: local states that behave alike become one.
- ``views``: the closed set, a graph of local states for each control.
- ``watched``: what is remembered of the watched call, for *lost zap* and *ordering*.
- ``somebody``: which vCPU can move whenever one waits, for *deadlock*.
- ``waiting``: how many zaps a call sits through, for *starvation*.
- ``prove``: the verdicts.
- ``certificate``: the proof as a file. ``checker.verifier`` verifies it on its own.
"""
