"""`python -m whisperstill`."""

from whisperstill.cli.main import program

if __name__ == "__main__":
    program()
