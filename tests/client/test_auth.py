"""BrokerAuth in requests and httpx: which requests carry the token, and the one replay after a 401."""

import copy
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread

import httpx
import pytest
import requests

from token_broker_client import BrokerAuth, BrokerRefused
from token_broker_client.auth import origin
from token_broker_client.httpx_auth import HttpxAuth
from token_broker_client.testing import FakeBroker

from .api import OK, UNAUTHORIZED, Api, ApiRequest, ApiResponse, redirect
from .conftest import NO_TLS, Call, with_httpx, with_requests

FIRST = "fake-unidy-eu-main-1"
SECOND = "fake-unidy-eu-main-2"
THIRD = "fake-unidy-eu-main-3"
UNIDY = ("unidy", "eu-main")
SELLER = ("unicommerce", "seller-1")
SELLER_FIRST = "fake-unicommerce-seller-1-1"
SELLER_SECOND = "fake-unicommerce-seller-1-2"


def test_each_request_carries_the_token_in_the_vendors_header(call: Call, api: Api, broker: FakeBroker) -> None:
    assert call("GET", f"{api.url}/users", BrokerAuth(*UNIDY)).status == 200
    assert call("GET", f"{api.url}/users", BrokerAuth(*SELLER)).status == 200
    assert api.requests[0].headers["Authorization"] == f"Bearer {FIRST}"
    assert api.requests[1].headers["apiKey"] == SELLER_FIRST
    assert "Authorization" not in api.requests[1].headers
    assert len(broker.asked) == 2


def test_auths_of_one_connection_share_its_token(call: Call, api: Api, broker: FakeBroker) -> None:
    for _ in range(3):
        call("GET", api.url, BrokerAuth(*UNIDY, scope="users:read"))
    call("GET", api.url, BrokerAuth(*UNIDY, scope="users:write"))
    assert [asked.scope for asked in broker.asked] == ["users:read", "users:write"]


@pytest.mark.parametrize(("name", "first", "second"), [(UNIDY, FIRST, SECOND), (SELLER, SELLER_FIRST, SELLER_SECOND)])
def test_a_rejected_token_is_reported_once_and_the_request_is_sent_again(
    call: Call, api: Api, broker: FakeBroker, name: tuple[str, str], first: str, second: str
) -> None:
    api.reject_tokens(first)
    auth = BrokerAuth(*name)
    response = call("POST", f"{api.url}/users", auth, data=b"a body", headers={"X-Own": "1"})
    assert (response.status, response.text) == (200, "ok")
    assert api.tokens == [first, second]
    assert [request.body for request in api.requests] == [b"a body", b"a body"]
    assert {request.headers["X-Own"] for request in api.requests} == {"1"}
    assert len(broker.reported) == 1
    assert call("GET", api.url, auth).status == 200
    assert len(broker.asked) == 2


def test_a_second_401_is_returned(call: Call, api: Api, broker: FakeBroker) -> None:
    api.response_to = lambda _: UNAUTHORIZED
    assert call("GET", api.url, BrokerAuth(*UNIDY)).status == 401
    assert api.tokens == [FIRST, SECOND]
    assert len(broker.reported) == 1


def test_a_revoked_token_that_the_broker_had_already_is_reported_too(call: Call, api: Api, broker: FakeBroker) -> None:
    """The broker has renewed the token, this process has not noticed, and the provider revokes both."""
    auth = BrokerAuth(*UNIDY)
    of_another_service(broker, auth.token().token_id)
    api.reject_tokens(FIRST, SECOND)
    response = call("POST", api.url, auth, data=b"a body")
    assert (response.status, response.statuses) == (200, [401, 401])
    assert api.tokens == [FIRST, SECOND, THIRD]
    assert [request.body for request in api.requests] == [b"a body"] * 3


def test_a_third_401_is_returned(call: Call, api: Api, broker: FakeBroker) -> None:
    auth = BrokerAuth(*UNIDY)
    of_another_service(broker, auth.token().token_id)
    api.response_to = lambda _: UNAUTHORIZED
    assert call("GET", api.url, auth).status == 401
    assert api.tokens == [FIRST, SECOND, THIRD]


def of_another_service(broker: FakeBroker, rejected: str) -> None:
    """Another service's report: the broker replaces the token, and this process does not notice."""
    broker._respond("/v1/tokens/unidy/eu-main", {"rejected": rejected}, timeout_s=1)


def test_without_another_token_the_401_is_returned(call: Call, api: Api, broker: FakeBroker) -> None:
    api.response_to = lambda _: UNAUTHORIZED
    auth = BrokerAuth(*UNIDY)
    auth.token()
    broker.fail("too_many_rejections", retry_after=30)
    assert [call("GET", api.url, auth).status for _ in range(2)] == [401, 401]
    assert api.tokens == [FIRST, FIRST]
    assert len(broker.reported) == 1
    broker.advance(31)
    assert call("GET", api.url, auth).status == 401
    assert len(broker.reported) == 2


def test_the_same_token_reissued_is_not_sent_again(
    call: Call, api: Api, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commerce Layer's 401 also means "no permission", and it issues the same token until its last 15 minutes."""
    api.response_to = lambda _: UNAUTHORIZED
    auth = BrokerAuth(*UNIDY)
    token = broker._respond("/v1/tokens/unidy/eu-main", {}, timeout_s=1)
    asked: list[object] = []

    def same_again(_path: str, query: object, **_: object) -> object:
        asked.append(query)
        return token

    monkeypatch.setattr(broker, "_get", same_again)
    assert [call("GET", api.url, auth).status for _ in range(3)] == [401] * 3
    assert api.tokens == [FIRST] * 3
    assert len(asked) == 2, "one request for the token, and one report of it"


@pytest.mark.parametrize(
    ("status", "challenge", "reported"),
    [
        (401, "", True),
        (401, 'Bearer realm="api", error="invalid_token"', True),
        (401, "Basic realm=api", True),
        (401, 'Bearer error="insufficient_scope", scope="users:write"', False),
        (401, "bearer error=invalid_request", False),
        (403, "", False),
        (407, "", False),
    ],
)
def test_which_responses_count_as_a_rejected_token(
    call: Call, api: Api, broker: FakeBroker, status: int, challenge: str, reported: bool
) -> None:
    api.response_to = lambda request: (status, {"WWW-Authenticate": challenge}, b"") if request.token == FIRST else OK
    assert call("GET", api.url, BrokerAuth(*UNIDY)).status == (200 if reported else status)
    assert len(broker.reported) == reported


@pytest.mark.parametrize("status", [400, 403, 500])
def test_an_api_with_a_status_and_a_code_of_its_own_needs_a_function(
    call: Call, api: Api, broker: FakeBroker, status: int
) -> None:
    bodies = {FIRST: b'{"code": "token_gone"}', SECOND: b'{"code": "no_permission"}'}
    api.response_to = lambda request: (status, {}, bodies[request.token or ""])
    response = call("GET", api.url, BrokerAuth(*UNIDY, is_rejected=lambda it: it.json()["code"] == "token_gone"))
    assert (response.status, response.text) == (status, bodies[SECOND].decode())
    assert api.tokens == [FIRST, SECOND]
    assert len(broker.reported) == 1


def test_the_function_replaces_the_rule_of_the_401_and_sees_no_success(
    call: Call, api: Api, broker: FakeBroker
) -> None:
    seen: list[int] = []

    def never(response: requests.Response | httpx.Response) -> bool:
        seen.append(response.status_code)
        return False

    auth = BrokerAuth(*UNIDY, is_rejected=never)
    assert call("GET", api.url, auth).status == 200
    api.response_to = lambda _: UNAUTHORIZED
    assert call("GET", api.url, auth).status == 401
    assert seen == [401]
    assert broker.reported == []


def test_a_redirect_within_the_origin_keeps_the_token(call: Call, api: Api, broker: FakeBroker) -> None:
    def respond(request: ApiRequest) -> ApiResponse:
        if request.path == "/old":
            return redirect(f"{api.url}/new")
        return OK if request.token else UNAUTHORIZED

    api.response_to = respond
    for name in (UNIDY, SELLER):
        api.requests.clear()
        response = call("POST", f"{api.url}/old", BrokerAuth(*name), data=b"body")
        assert (response.status, response.text) == (200, "ok")
        assert api.requests[-1].path == "/new"
        assert api.requests[-1].body == b"body"
    assert broker.reported == []


@pytest.mark.parametrize("name", [UNIDY, SELLER], ids=["Authorization", "apiKey"])
@pytest.mark.parametrize("form", ["{other_host}/x", "//{host}/x", "http://localhost:{port}/x"])
def test_another_host_never_gets_the_token(
    call: Call, api: Api, other_host: Api, broker: FakeBroker, name: tuple[str, str], form: str
) -> None:
    host = other_host.url.removeprefix("http://")
    location = form.format(other_host=other_host.url, host=host, port=host.partition(":")[2])
    api.response_to = lambda _: redirect(location, 302)
    other_host.response_to = lambda _: UNAUTHORIZED
    assert call("GET", f"{api.url}/file", BrokerAuth(*name)).status == 401
    assert other_host.tokens == [None]
    assert broker.reported == [], "a 401 of another host says nothing about the token"


@pytest.mark.parametrize("name", [UNIDY, SELLER], ids=["Authorization", "apiKey"])
def test_another_host_cannot_redirect_the_token_back(
    call: Call, api: Api, other_host: Api, broker: FakeBroker, name: tuple[str, str]
) -> None:
    def respond(request: ApiRequest) -> ApiResponse:
        return redirect(f"{other_host.url}/there") if request.path == "/start" else UNAUTHORIZED

    api.response_to = respond
    other_host.response_to = lambda _: redirect(f"{api.url}/delete-all")
    assert call("POST", f"{api.url}/start", BrokerAuth(*name)).status == 401
    assert [(request.path, request.token is None) for request in api.requests] == [
        ("/start", False),
        ("/delete-all", True),
    ]
    assert other_host.tokens == [None]
    assert broker.reported == []


@pytest.mark.parametrize("name", [UNIDY, SELLER], ids=["Authorization", "apiKey"])
def test_a_replay_that_is_redirected_to_another_host_carries_no_token(
    call: Call, api: Api, other_host: Api, broker: FakeBroker, name: tuple[str, str]
) -> None:
    api.response_to = lambda request: (
        UNAUTHORIZED if (request.token or "").endswith("-1") else redirect(f"{other_host.url}/file", 302)
    )
    assert call("GET", f"{api.url}/file", BrokerAuth(*name)).status == 200
    assert len(api.requests) == 2
    assert other_host.tokens == [None]
    assert len(broker.reported) == 1


@pytest.mark.parametrize("name", [UNIDY, SELLER], ids=["Authorization", "apiKey"])
def test_a_replay_that_is_redirected_within_the_origin_keeps_the_new_token(
    call: Call, api: Api, broker: FakeBroker, name: tuple[str, str]
) -> None:
    def respond(request: ApiRequest) -> ApiResponse:
        if request.token is None or request.token.endswith("-1"):
            return UNAUTHORIZED
        return redirect(f"{api.url}/new") if request.path == "/old" else OK

    api.response_to = respond
    assert call("GET", f"{api.url}/old", BrokerAuth(*name)).status == 200
    assert (api.requests[-1].path, (api.requests[-1].token or "")[-2:]) == ("/new", "-2")
    assert len(broker.reported) == 1


def test_a_request_is_replayed_once_along_all_its_redirects(call: Call, api: Api, broker: FakeBroker) -> None:
    api.response_to = lambda request: (
        redirect(f"{api.url}/new") if (request.path, request.token) == ("/old", SECOND) else UNAUTHORIZED
    )
    assert call("GET", f"{api.url}/old", BrokerAuth(*UNIDY)).status == 401
    assert api.tokens == [FIRST, SECOND, SECOND]
    assert len(broker.reported) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example\\@elsewhere.example/",
        "http://elsewhere.example\\@api.example/",
        "http://api.example@elsewhere.example/",
        "http://api.example.elsewhere.example/",
        "https://api.example/",
        "http://api.example:8080/",
        "//elsewhere.example/",
        "/relative",
        "file:///etc/passwd",
    ],
)
def test_these_urls_have_another_origin(url: str) -> None:
    assert origin(url) != origin("http://api.example/")


def test_these_urls_have_the_same_origin() -> None:
    assert origin("http://api.example/x?y") == origin("HTTP://API.example:80/") != origin("http://api.example:81")


def test_the_brokers_error_is_raised(call: Call, api: Api, broker: FakeBroker) -> None:
    broker.fail("caller_not_allowed", detail="arn:aws:iam::123456789012:role/other")
    with pytest.raises(BrokerRefused, match="caller_not_allowed: arn:aws:iam::123456789012:role/other"):
        call("GET", api.url, BrokerAuth(*UNIDY))
    assert api.requests == []


class Once:
    """A body of a known length that can be read once."""

    def __init__(self, body: bytes) -> None:
        self._left = [body]
        self._length = len(body)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while self._left:
            yield self._left.pop()


@pytest.mark.parametrize("call", [with_requests, with_httpx], ids=["requests", "httpx"])
def test_a_body_that_cannot_be_sent_again_is_not_and_the_token_is_reported(
    call: Call, api: Api, broker: FakeBroker
) -> None:
    api.reject_tokens(FIRST)
    auth = BrokerAuth(*UNIDY)
    assert call("POST", api.url, auth, data=Once(b"body"), headers={"Content-Length": "4"}).status == 401
    assert [request.body for request in api.requests] == [b"body"]
    assert len(broker.reported) == 1
    assert call("POST", api.url, auth, data=Once(b"body"), headers={"Content-Length": "4"}).status == 200


@pytest.mark.parametrize(("call", "start"), [(with_requests, 8), (with_httpx, 0)], ids=["requests", "httpx"])
def test_a_file_is_sent_again_from_where_it_was(
    call: Call, api: Api, broker: FakeBroker, tmp_path: Path, start: int
) -> None:
    """httpx itself sends a file from its beginning only: it declares the whole file's length."""
    api.reject_tokens(FIRST)
    path = tmp_path / "body"
    path.write_bytes(b"skipped|the rest")
    with path.open("rb") as file:
        file.seek(start)
        assert call("PUT", api.url, BrokerAuth(*UNIDY), data=file).status == 200
    assert [request.body for request in api.requests] == [b"skipped|the rest"[start:]] * 2
    with io.BytesIO(b"the body") as file:
        assert call("PUT", api.url, BrokerAuth(*UNIDY), data=file).status == 200
    assert api.requests[-1].body == b"the body"
    assert len(broker.reported) == 1


def test_a_form_with_a_file_is_sent_again(call: Call, api: Api, broker: FakeBroker) -> None:
    api.reject_tokens(FIRST)
    with io.BytesIO(b"the file") as file:
        response = call("POST", api.url, BrokerAuth(*UNIDY), files={"f": file, "g": ("name", b"bytes")})
    assert response.status == 200
    assert len(broker.reported) == 1
    assert api.requests[0].body == api.requests[1].body
    assert b"the file" in api.requests[0].body


class Pipe(io.BytesIO):
    """A file that cannot seek."""

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation

    tell = seek


class Unauthorized(httpx.BaseTransport):
    """Responds with 401 and keeps the bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        self.bodies.append(b"".join(request.stream))
        return httpx.Response(401)


def test_httpx_does_not_send_a_form_again_whose_file_cannot_seek(broker: FakeBroker) -> None:
    transport = Unauthorized()
    with httpx.Client(transport=transport) as client, Pipe(b"the file") as pipe:
        response = client.post("https://api.example", auth=BrokerAuth(*UNIDY), files={"f": pipe})
    assert response.status_code == 401
    assert len(transport.bodies) == 1
    assert b"the file" in transport.bodies[0]
    assert len(broker.reported) == 1


def test_a_session_keeps_its_auth_over_many_requests(api: Api, broker: FakeBroker) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.auth = BrokerAuth(*UNIDY)
        api.reject_tokens(FIRST)
        assert session.get(api.url, timeout=10).status_code == 200
        api.reject_tokens(FIRST, SECOND)
        assert session.get(api.url, timeout=10).status_code == 200
    assert len(broker.reported) == 2


def test_a_prepared_request_can_be_sent_twice(api: Api, broker: FakeBroker) -> None:
    with requests.Session() as session:
        session.trust_env = False
        prepared = session.prepare_request(requests.Request("GET", api.url, auth=BrokerAuth(*UNIDY)))
        api.reject_tokens(FIRST)
        assert session.send(prepared, timeout=10).status_code == 200
        api.reject_tokens(FIRST, SECOND)
        assert session.send(prepared, timeout=10).status_code == 200
    assert len(broker.reported) == 2


@pytest.mark.usefixtures("broker")
def test_a_prepared_request_that_was_redirected_to_another_host_gets_its_token_again(api: Api, other_host: Api) -> None:
    api.response_to = lambda _: redirect(other_host.url, 302)
    with requests.Session() as session:
        session.trust_env = False
        prepared = session.prepare_request(requests.Request("GET", api.url, auth=BrokerAuth(*SELLER)))
        for _ in range(2):
            session.send(prepared, timeout=10)
    assert api.tokens == [SELLER_FIRST, SELLER_FIRST]
    assert other_host.tokens == [None, None]


def test_threads_that_get_a_401_together_make_one_report(api: Api, broker: FakeBroker) -> None:
    auth = BrokerAuth(*UNIDY)
    auth.token()
    barrier = Barrier(20)

    def respond(request: ApiRequest) -> ApiResponse:
        if request.token == FIRST:
            barrier.wait(10)
            return UNAUTHORIZED
        return OK

    api.response_to = respond
    statuses: list[int] = []
    threads = [Thread(target=lambda: statuses.append(with_requests("GET", api.url, auth).status)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == [200] * 20
    assert len(broker.reported) == 1


def test_the_repr_of_an_auth_has_no_secret_and_making_one_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN_BROKER_URL", raising=False)
    assert repr(BrokerAuth(*UNIDY, scope="users:read")) == "BrokerAuth('unidy', 'eu-main', scope='users:read')"
    with FakeBroker() as broker:
        shown = repr(broker.token(*UNIDY))
    assert FIRST not in shown
    assert "token_id=" in shown


def test_an_auth_can_be_pickled_and_copied(call: Call, api: Api, broker: FakeBroker) -> None:
    auth = BrokerAuth(*UNIDY, scope="users:read")
    for other in (pickle.loads(pickle.dumps(auth)), copy.deepcopy(auth)):  # noqa: S301  # its own pickle
        assert isinstance(other, BrokerAuth)
        assert repr(other) == repr(auth)
        assert call("GET", api.url, other).status == 200
    assert [asked.scope for asked in broker.asked] == ["users:read"]


def test_httpx_auth_replaces_a_rejected_token_too(api: Api, broker: FakeBroker) -> None:
    api.reject_tokens(FIRST)
    auth = HttpxAuth(*UNIDY)
    with httpx.Client(verify=NO_TLS, trust_env=False) as client:
        assert client.get(api.url, auth=auth).status_code == 200
    assert api.tokens == [FIRST, SECOND]
    assert len(broker.reported) == 1


def test_an_auth_made_before_httpx_was_imported_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.delitem(__import__("sys").modules, "httpx")
        auth = BrokerAuth(*UNIDY)
    assert not isinstance(auth, httpx.Auth)
    with pytest.raises(TypeError, match="import httpx before"):
        auth(httpx.Request("GET", "https://api.example"))
