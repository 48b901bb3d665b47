"""``python -m mtrrzap``."""

from mtrrzap.cli import main

if __name__ == "__main__":
    main()
