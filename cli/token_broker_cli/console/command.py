"""`token-broker console`: serves the console on 127.0.0.1 until Ctrl-C, and opens it in the browser."""

import argparse
import contextlib
import signal
import sys
import threading
from contextlib import closing

from token_broker_cli.browser import open_in_browser
from token_broker_cli.console.context import ConsoleContext
from token_broker_cli.console.door import LINK_LIFE_S, Door
from token_broker_cli.console.pages import Renderer
from token_broker_cli.console.server import LOOPBACK, Server, listen
from token_broker_cli.console.site import Site
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.target import Target


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
            open_in_browser(door.new_link(), life_s=LINK_LIFE_S)
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
