"""`python -m whisperstill`."""

from whisperstill.cli.main import entry_point

if __name__ == "__main__":
    entry_point()
