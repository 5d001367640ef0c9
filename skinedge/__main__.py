"""python -m skinedge."""

from skinedge.cli import process

if __name__ == "__main__":
    process()
