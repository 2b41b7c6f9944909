"""The API Gateway front of the local stack: verifies signatures, makes proxy events, sends proxy responses as HTTP.

Routes, stage and gateway responses are the template's. `GET /_local/health` responds once the front is up. The pages
beside the API need no signature. The console has its own door.
"""

import base64
import json
import logging
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, Protocol
from urllib.parse import quote

from local.docs_page import Page
from local.events import api_gateway_event
from local.gateway_responses import GatewayResponses
from local.lambda_environments import FunctionError, NoFreeEnvironment
from local.ports import LOOPBACK, LoopbackServer, port_of
from local.resources import GatewayResponse
from local.sigv4 import MISSING, AccessDenied, Caller, ReceivedRequest, SignatureVerifier
from token_broker_cli.console.server import received
from token_broker_cli.console.site import Site

HEALTH_PATH: Final = "/_local/health"
OUTAGE_PATHS: Final = {"/_local/broker/down": True, "/_local/broker/up": False}
# A page loads nothing from elsewhere. Swagger UI has inline styles and icons.
POLICY: Final = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
LARGEST_BODY: Final = 10 * 1024 * 1024
LONGEST_LOGGED_PATH: Final = 200
logger = logging.getLogger(__name__)


class Invokable(Protocol):
    """The function behind a route: a pool of environments."""

    def invoke(self, event: Any) -> Any:
        """The proxy response. Raises FunctionError or NoFreeEnvironment."""


@dataclass(frozen=True)
class Route:
    """One method of one resource, such as GET /v1/tokens/{provider}/{connection}, and the function behind it."""

    method: str
    resource: str
    function: Invokable
    signed: bool = True

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The path parameters, not decoded, or None if the request is not for this route."""
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.resource))
        found = re.fullmatch(pattern, path)
        return found.groupdict() if found and method == self.method else None


class MalformedProxyResponse(Exception):
    """The function did not return a Lambda proxy response."""


class Gateway:
    """Turns a received request into a response, without sockets."""

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        verifier: SignatureVerifier | None,
        gateway_responses: Mapping[str, GatewayResponse],
        stage: str,
        unsigned_caller: Caller,
    ) -> None:
        """`verifier` None: signatures are not verified, and every request is `unsigned_caller`'s."""
        self._routes = routes
        self._verifier = verifier
        self._responses = GatewayResponses(gateway_responses)
        self._stage = stage
        self._unsigned_caller = unsigned_caller

    def respond(self, request: ReceivedRequest) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body, from the function or from the gateway itself."""
        request_id = str(uuid.uuid4())
        try:
            status, headers, body = self._from_function(request, request_id)
        except AccessDenied as denied:
            status, headers, body = self._own(denied.response_type, denied.message, request_id)
        except NoFreeEnvironment:
            status, headers, body = self._own("INTEGRATION_TIMEOUT", "Endpoint request timed out", request_id)
        except (FunctionError, MalformedProxyResponse) as error:
            logger.warning("%s %s: %s", request.method, request.path, error)
            status, headers, body = self._own("INTEGRATION_FAILURE", "Internal server error", request_id)
        return status, [*headers, ("x-amzn-RequestId", request_id)], body

    def _from_function(self, request: ReceivedRequest, request_id: str) -> tuple[int, list[tuple[str, str]], bytes]:
        route, path_parameters = self._route(request)
        now = datetime.now(UTC)
        event = api_gateway_event(
            request,
            resource=route.resource,
            path_parameters=path_parameters,
            stage=self._stage,
            caller=self._caller(route, request, now),
            request_id=request_id,
            now=now,
        )
        return proxy_response(route.function.invoke(event))

    def _caller(self, route: Route, request: ReceivedRequest, now: datetime) -> Caller | None:
        if not route.signed:
            return None
        return self._verifier.verify(request, now) if self._verifier else self._unsigned_caller

    def _route(self, request: ReceivedRequest) -> tuple[Route, dict[str, str]]:
        for route in self._routes:
            if (parameters := route.match(request.method, request.path)) is not None:
                return route, parameters
        # API Gateway's own response to an unknown path.
        raise AccessDenied(MISSING, "Missing Authentication Token")

    def deny(self, response_type: str, message: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """The response to a request whose body is not read."""
        return self._own(response_type, message, str(uuid.uuid4()))

    def _own(self, response_type: str, message: str, request_id: str) -> tuple[int, list[tuple[str, str]], bytes]:
        own = self._responses.render(response_type, message, request_id)
        return own.status, list(own.headers.items()), own.body.encode()


def proxy_response(response: Any) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of a Lambda proxy response. Raises MalformedProxyResponse."""
    known = {"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"}
    if not isinstance(response, dict) or not isinstance(response.get("statusCode"), int) or response.keys() - known:
        raise MalformedProxyResponse("Malformed Lambda proxy response: it needs statusCode and knows no other keys")
    body = response.get("body") or ""
    if not isinstance(body, str):
        raise MalformedProxyResponse("Malformed Lambda proxy response: the body must be a string")
    multi = {name: [str(v) for v in values] for name, values in (response.get("multiValueHeaders") or {}).items()}
    for name, value in (response.get("headers") or {}).items():
        multi.setdefault(name, [str(value)])
    headers = [(name, value) for name, values in multi.items() for value in values]
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", "application/json"))
    return response["statusCode"], headers, base64.b64decode(body) if response.get("isBase64Encoded") else body.encode()


class Front:
    """The gateway on a listening socket, with a thread per connection. `url`: its base URL."""

    def __init__(self, listener: socket.socket, gateway: Gateway, pages: Mapping[str, Page] | None = None) -> None:
        self.url = f"http://{LOOPBACK}:{port_of(listener)}"

        class Handler(_Handler):
            pass

        Handler.gateway = gateway
        Handler.is_down = False
        Handler.pages = pages or {}
        self._handler = Handler
        self._server = LoopbackServer(listener, Handler)
        # The poll interval only delays the end of serve_forever; requests wake it at once.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="front", daemon=True)
        self._thread.start()

    def log_requests(self, write: Callable[[str], None]) -> None:
        """From now on, call `write` with one line per request: method, path, status and milliseconds.

        The line has no query, header or body: those can hold a signature or a secret.
        """
        self._handler.write_log = staticmethod(write)

    def serve_console(self, site: Site) -> None:
        """From now on, respond to the console's paths too."""
        self._handler.console = site

    def close(self) -> None:
        """Stop serving and free the port. Idempotent."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Reads HTTP/1.1, keeps connections open, writes one response per request."""

    gateway: Gateway
    is_down: bool  # of the class, for all connections
    pages: Mapping[str, Page]
    console: Site | None = None
    write_log: Callable[[str], None] | None = None
    path = ""  # until a request line was read
    began_at = 0.0
    protocol_version = "HTTP/1.1"
    server_version = "local-stack"
    sys_version = ""
    timeout = 75  # an idle keep-alive connection is closed, as a gateway's is
    disable_nagle_algorithm = True
    wbufsize = -1  # buffered: head and body leave in one segment

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        if path == HEALTH_PATH:
            self._write(200, [("Content-Type", "application/json")], json.dumps({"status": "ready"}).encode())
            return
        # A web page sends Origin. It must not start an outage.
        if self.command == "POST" and path in OUTAGE_PATHS and "Origin" not in self.headers:
            type(self).is_down = OUTAGE_PATHS[path]
            self._write(200, [("Content-Type", "application/json")], json.dumps({"is_down": self.is_down}).encode())
            return
        if self.is_down:
            self.close_connection = True
            return
        if self.command == "GET" and (page := self.pages.get(path)) is not None:
            self._write(200, [("Content-Type", page.content_type), ("Content-Security-Policy", POLICY)], page.body)
            return
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.close_connection = True
            self._write(*self.gateway.deny("BAD_REQUEST_BODY", "Send the body with a Content-Length"))
        elif int(length) > LARGEST_BODY:
            self.close_connection = True
            self._write(*self.gateway.deny("REQUEST_TOO_LARGE", "HTTP content length exceeded 10485760 bytes."))
        else:
            self._respond(path, query, self.rfile.read(int(length)))

    def _respond(self, path: str, query: str, body: bytes) -> None:
        if self.console is not None and self.console.handles(path):
            response = self.console.respond(received(self.command, self.path, self.headers, body))
            self._write(response.status, [("Content-Type", response.content_type), *response.headers], response.body)
        else:
            self._write(*self.gateway.respond(ReceivedRequest(self.command, path, query, self.headers, body)))

    def __getattr__(self, name: str) -> Any:
        """Serve every method: http.server looks for do_GET and so on, and sends a page of its own if there is none."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _write(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def parse_request(self) -> bool:
        self.began_at = time.monotonic()
        return super().parse_request()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """http.server calls this when it writes a status line."""
        if self.write_log is None:
            return
        path = quote(self.path.partition("?")[0][:LONGEST_LOGGED_PATH], safe="/%:")  # without control characters
        request = f"{self.command} {path}" if self.command else "unreadable request"
        elapsed_ms = (time.monotonic() - self.began_at) * 1000
        self.write_log(f"{request} {int(code)} {elapsed_ms:.0f} ms")

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: http.server's own line would hold the query."""
