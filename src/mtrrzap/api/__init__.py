"""What ``import mtrrzap`` offers: one function a task, and results that print themselves.

Each module here is loaded when one of its names is first used. Use the names as ``mtrrzap.load``,
``mtrrzap.check`` and so on.
"""
