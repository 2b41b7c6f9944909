"""Opens a link in the browser without showing it to the other users of the machine."""

import html
import os
import shutil
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import Final

REDIRECT: Final = """\
<!DOCTYPE html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={link}">
<title>Token broker</title>
<a href="{link}">Go on</a>
"""


def open_in_browser(link: str, *, life_s: float) -> None:
    """Has the browser follow the link.

    Other users can read a browser's command line. So it gets the path of a file that only this user can read, and the
    file leads on to the link. It is removed after `life_s`.
    """
    file = redirect_file(link)
    removal = threading.Timer(life_s, shutil.rmtree, (file.parent,), {"ignore_errors": True})
    removal.daemon = True
    removal.start()
    webbrowser.open(file.as_uri())


def redirect_file(link: str) -> Path:
    """A new file that leads a browser to the link. Only this user can read it."""
    path = Path(tempfile.mkdtemp(prefix="token-broker-")) / "open.html"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(REDIRECT.format(link=html.escape(link)))
    return path
