"""``python -m papershell.orchestration.loopback ROOT``: serve a workspace until told to stop."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from papershell.orchestration.errors import OrchestrationError
from papershell.orchestration.loopback.faults import Fault
from papershell.orchestration.loopback.launch import serve
from papershell.orchestration.loopback.service import Options


def main(argv: list[str] | None = None) -> int:
    """Read the flags and serve; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m papershell.orchestration.loopback", description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--slots", type=int, default=Options.slots, help="runs at once")
    parser.add_argument("--provision-seconds", type=float, default=0.0, help="time a cluster takes")
    parser.add_argument("--idle-seconds", type=float, default=float("inf"), help="end after so long unused")
    parser.add_argument("--fault", type=Fault.parse, action="append", default=[], help=Fault.__doc__)
    flags = parser.parse_args(argv)
    options = Options(flags.slots, flags.provision_seconds, flags.fault)
    try:
        serve(flags.root, port=flags.port, options=options, idle_s=flags.idle_seconds)
    except OrchestrationError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
