"""Properties that one step or one state decides: unlocked access, capacity, deadlock.

*No unlocked access*: a vCPU that uses what a lock guards holds that lock, and no vCPU releases a
lock that it does not hold. The objects declare their guard; which locks a vCPU holds is part of its
local state.

*Capacity*: a bounded object never holds more than fits, and never drops what it was given. Which
steps do that is the object's own knowledge: see ``SharedObject.problem``.

*No deadlock*: while a vCPU has a request left, some vCPU can make a step. The search finds it: a
state without successors in which not every vCPU has made all its requests.
"""

UNLOCKED, CAPACITY, DEADLOCK = "unlocked access", "capacity", "deadlock"
UNLOCKED_FLAG, CAPACITY_FLAG, DEADLOCK_FLAG = 2, 4, 16
