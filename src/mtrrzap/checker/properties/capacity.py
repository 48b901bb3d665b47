"""*Capacity*: a bounded object never holds more than fits, and never drops what it was given.

Which steps do that is the object's own knowledge: see ``SharedObject.problem``.
"""

NAME = "capacity"
FLAG = 4
