"""`python -m syndiff` is the command `syndiff`."""

from syndiff.cli import main

if __name__ == "__main__":
    main()
