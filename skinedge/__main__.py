"""python -m skinedge."""

from skinedge.cli import main

if __name__ == "__main__":
    main()
