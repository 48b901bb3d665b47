"""``python -m mtrrzap``."""

from mtrrzap.cli.main import main

if __name__ == "__main__":
    main()
