"""The one kind of error that a user sees: where, what, and how to mend it, on one line."""


class UserError(Exception):
    """Bad input or a missing prerequisite. The command line prints it and exits with status 2.

    ``place`` names a file and line, an MSR, an option, ...; ``mend`` says what to do about it.
    """

    def __init__(self, problem: str, *, place: str | None = None, mend: str | None = None) -> None:
        """Join the three parts into one line; ``problem`` alone is enough."""
        super().__init__(problem)
        self.problem = problem
        self.place = place
        self.mend = mend

    def __str__(self) -> str:
        """Render as ``place: problem; mend``."""
        head = f"{self.place}: {self.problem}" if self.place else self.problem
        line = f"{head}; {self.mend}" if self.mend else head
        return " ".join(line.split())
