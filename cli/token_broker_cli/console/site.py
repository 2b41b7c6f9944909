"""The console as a function from request to response: door, routes, errors, and the headers of every response."""

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from token_broker_cli.console import (
    actions,
    add_pages,
    audit_pages,
    connection_pages,
    edit_pages,
    overview,
    static_files,
)
from token_broker_cli.console.context import ConsoleContext, View
from token_broker_cli.console.door import OPEN_PATH, Door, Session
from token_broker_cli.console.messages import Denied, Request, Response
from token_broker_cli.problems import Problem, problem_of
from token_broker_client.errors import TokenBrokerError, UnknownConnection, UnknownProvider

HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    (
        "Content-Security-Policy",
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
READS: Final = ("GET", "HEAD")
Show = Callable[..., Response]


@dataclass(frozen=True)
class Route:
    """A page or a change. {names} in the pattern are passed to `show`. `is_for_changes`: not in a read-only console."""

    method: str
    pattern: str
    show: Show
    is_for_changes: bool = False

    def match(self, path: str) -> dict[str, str] | None:
        """The names in the path; None if it is another page's."""
        expression = re.sub(r"\{(\w+)\}", r"(?P<\1>[a-z0-9_.-]{1,80})", self.pattern)
        found = re.fullmatch(expression, path)
        return found.groupdict() if found else None


class Site:
    """The console behind its door."""

    def __init__(self, context: ConsoleContext, door: Door) -> None:
        self.door = door
        self._context = context

    @staticmethod
    def handles(path: str) -> bool:
        """Whether the path is one of the console's."""
        return path == OPEN_PATH or any(route.match(path) is not None for route in ROUTES)

    def respond(self, request: Request) -> Response:
        """The response to any request."""
        response = self._checked(request)
        return replace(response, headers=(*HEADERS, *response.headers))

    def _checked(self, request: Request) -> Response:
        try:
            self.door.check_host(request)
            if request.path == OPEN_PATH and request.method == "GET":
                return self._open(request)
            session = self.door.session(request)
        except Denied as denied:
            return self._page("denied.html", denied.status, what=denied.what, todo=denied.todo)
        try:
            return self._routed(request, session)
        except Denied as denied:
            return self._problem(session, denied.status, denied.what, denied.todo)
        except (TokenBrokerError, ClientError, BotoCoreError, Problem) as error:
            problem = problem_of(error, is_local=self._context.target.is_local)
            return self._problem(session, _status(error), problem.what, problem.todo)
        except Exception as error:  # noqa: BLE001  # a bug: the page says where, and not the text, which can hold a value
            where = traceback.extract_tb(error.__traceback__)[-1]
            what = f"The console failed: {type(error).__name__} in {where.name}, line {where.lineno}."
            return self._page("denied.html", 500, what=what, todo="Report this. The broker is not affected.")

    def _open(self, request: Request) -> Response:
        """The link's page. It leads on by itself: a redirect would count as the other site's, and bring no cookie."""
        cookie = self.door.open(request.parameters.get("code", ""))
        response = self._page("open.html", 200)
        return replace(response, headers=(("Set-Cookie", cookie),))

    def _routed(self, request: Request, session: Session) -> Response:
        matching = [(route, names) for route in ROUTES if (names := route.match(request.path)) is not None]
        if not matching:
            raise Denied(404, "There is no such page.")
        method = "GET" if request.method in READS else request.method
        for route, names in matching:
            if route.method == method:
                if method == "POST":
                    self.door.check_change(request, session)
                if route.is_for_changes and self._context.read_only:
                    raise Denied(403, "This console is read-only.", "Start it without --read-only.")
                return route.show(View(self._context, session), request, **names)
        raise Denied(405, f"{request.method} is not possible here.")

    def _problem(self, session: Session, status: int, what: str, todo: str) -> Response:
        view = View(self._context, session)
        return view.page("problem.html", status=status, what=what, todo=todo)

    def _page(self, template: str, status: int, **values: Any) -> Response:
        """A page for a browser without a session: it loads nothing."""
        return self._context.renderer.page(template, values, status=status)


CONNECTION: Final = "/connections/{provider}/{name}"
ROUTES: Final = (
    Route("GET", "/", overview.show),
    Route("GET", CONNECTION, connection_pages.show),
    Route("GET", f"{CONNECTION}/history", connection_pages.history),
    Route("GET", f"{CONNECTION}/recent", audit_pages.recent),
    Route("GET", f"{CONNECTION}/restore", connection_pages.confirm_restore, is_for_changes=True),
    Route("POST", f"{CONNECTION}/restore", connection_pages.restore, is_for_changes=True),
    Route("GET", f"{CONNECTION}/edit", edit_pages.show, is_for_changes=True),
    Route("POST", f"{CONNECTION}/edit", edit_pages.change, is_for_changes=True),
    Route("GET", f"{CONNECTION}/{{action}}", actions.confirm, is_for_changes=True),
    Route("POST", f"{CONNECTION}/{{action}}", actions.run, is_for_changes=True),
    Route("GET", "/add", add_pages.pick, is_for_changes=True),
    Route("GET", "/add/{provider}", add_pages.show, is_for_changes=True),
    Route("POST", "/add/{provider}", add_pages.add, is_for_changes=True),
    Route("GET", "/audit", audit_pages.show),
    Route("GET", "/static/{name}", static_files.show),
    Route("GET", "/favicon.ico", static_files.icon),
)


def _status(error: Exception) -> int:
    return 404 if isinstance(error, UnknownConnection | UnknownProvider) else 502
