"""``python -m lastlayer``."""

from lastlayer.cli import main

if __name__ == "__main__":
    main()
