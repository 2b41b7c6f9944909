"""`token-broker console`: serves the console on 127.0.0.1 until Ctrl-C, and opens it in the browser."""

import argparse
import contextlib
import html
import os
import shutil
import signal
import sys
import tempfile
import threading
import webbrowser
from contextlib import closing
from pathlib import Path
from typing import Final

from token_broker_cli.console.context import ConsoleContext
from token_broker_cli.console.door import LINK_LIFE_S, Door
from token_broker_cli.console.pages import Renderer
from token_broker_cli.console.server import LOOPBACK, Server, listen
from token_broker_cli.console.site import Site
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.target import Target

REDIRECT: Final = """\
<!DOCTYPE html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={link}">
<title>Token broker</title>
<a href="{link}">Open the console</a>
"""


def console(target: Target, options: argparse.Namespace) -> Exit:
    """Serves until Ctrl-C. Enter opens the browser again, with a new link."""
    try:
        listener = listen(options.port)
    except OSError as error:
        what = f"Port {options.port} cannot be used: {error.strerror}."
        raise Problem(what, "Leave --port out to take a free one.", exit_code=Exit.USAGE) from None
    door = Door(f"http://{LOOPBACK}:{listener.getsockname()[1]}")
    context = ConsoleContext(target, Renderer(), read_only=options.read_only, log=options.log)
    site = Site(context, door)
    with target.screen.progress("Reading the connections"):
        context.connections.read()
    with closing(Server(listener, site.respond)), contextlib.suppress(KeyboardInterrupt):
        target.screen.say(f"Console: {door.origin} (Ctrl-C stops it)")
        _offer_links(target, door, in_browser=not options.no_browser)
    return Exit.DONE


def _offer_links(target: Target, door: Door, *, in_browser: bool) -> None:
    """Opens the browser, or prints a link, and again after each Enter. Never returns."""
    while True:
        if in_browser:
            open_browser(door)
        else:
            target.screen.say(f"Open this within a minute, once: {door.new_link()}")
        if sys.stdin.isatty():
            target.screen.say("Enter: a new link", "dim")
        wait_for_enter()


def wait_for_enter() -> None:
    """Returns after Enter in the terminal. Waits forever if there is none, or in the background of its shell."""
    if sys.stdin.isatty():
        # In the background, reading then fails instead of stopping the program.
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            if sys.stdin.readline():
                return
    threading.Event().wait()


def open_browser(door: Door) -> None:
    """Has the browser follow a new link.

    Other users can read a browser's command line. So it gets the path of a file that only this user can read, and the
    file leads on to the link. It is removed when the link has ended.
    """
    file = redirect_file(door.new_link())
    removal = threading.Timer(LINK_LIFE_S, shutil.rmtree, (file.parent,), {"ignore_errors": True})
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
