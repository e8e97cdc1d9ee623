"""``python -m papershell``: the command ``papershell``."""

from papershell.orchestration.cli import main

if __name__ == "__main__":
    main()
