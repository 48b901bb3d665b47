"""The targets of ``fuzz_import`` under atheris' coverage-guided loop.

Run: ``python tests/fuzz_atheris.py CORPUS -max_total_time=300`` (``pip install atheris``). What
stands in the folder CORPUS is begun with, and what reaches new code is kept there. Only mtrrzap is
instrumented: all of the standard library takes minutes.
"""

import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["mtrrzap"]):
    from helpers import fuzz_import


def one(data: bytes) -> None:
    """Run one case: the first byte chooses the reader."""
    if data:
        target = fuzz_import.TARGETS[data[0] % len(fuzz_import.TARGETS)][0]
        result = fuzz_import.check(target, data[1:])
        if result not in ("read", "UserError"):
            raise AssertionError(result)


def main() -> None:
    """Put the samples, and what was kept, into an empty corpus and begin."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        for number, (_, samples) in enumerate(fuzz_import.TARGETS):
            for count, sample in enumerate(samples):
                (folder / f"sample-{number}-{count}").write_bytes(bytes([number]) + sample)
        for number, data in enumerate(fuzz_import.kept()):
            (folder / f"kept-{number}").write_bytes(data)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
