"""The user's web browser."""

from __future__ import annotations

import html
import os
import sys
import webbrowser
from pathlib import Path

from papershell.kernels.files import replacing

_PAGE = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={link}">'


def show(link: str, folder: Path) -> bool:
    """Open a secret link in the user's browser; return False if there is none with windows.

    A file of ``folder``, which is its owner's only, leads to the link: other users of the machine see the
    words of a command.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    page = folder.resolve() / "open.html"
    with replacing(page, private=True) as file:
        file.write(_PAGE.format(link=html.escape(link)).encode())
    return webbrowser.open(page.as_uri())
