"""BrokerAuth in requests and httpx: the token's headers where they belong, and one replay of what the API refused."""

import io
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread

import httpx
import pytest
import requests

from token_broker_client import BrokerAuth, BrokerRefused
from token_broker_client.auth import origins
from token_broker_client.testing import FakeBroker

from .api import OK, REFUSED, Api, Came, Reply, redirect
from .conftest import Call, with_httpx, with_requests

FIRST, SECOND = "fake-unidy-eu-main-1", "fake-unidy-eu-main-2"
UNIDY = ("unidy", "eu-main")
SELLER = ("unicommerce", "seller-1")
SELLER_FIRST, SELLER_SECOND = "fake-unicommerce-seller-1-1", "fake-unicommerce-seller-1-2"


def test_each_request_carries_the_token_the_vendors_way(call: Call, api: Api, broker: FakeBroker) -> None:
    assert call("GET", f"{api.url}/users", BrokerAuth(*UNIDY)).status == 200
    assert call("GET", f"{api.url}/users", BrokerAuth(*SELLER)).status == 200
    assert api.came[0].headers["Authorization"] == f"Bearer {FIRST}"
    assert api.came[1].headers["apiKey"] == SELLER_FIRST
    assert "Authorization" not in api.came[1].headers
    assert len(broker.asked) == 2


def test_auths_of_one_connection_share_its_token(call: Call, api: Api, broker: FakeBroker) -> None:
    for _ in range(3):
        call("GET", api.url, BrokerAuth(*UNIDY, scope="users:read"))
    call("GET", api.url, BrokerAuth(*UNIDY, scope="users:write"))
    assert [asked.scope for asked in broker.asked] == ["users:read", "users:write"]


@pytest.mark.parametrize(("name", "first", "second"), [(UNIDY, FIRST, SECOND), (SELLER, SELLER_FIRST, SELLER_SECOND)])
def test_a_refused_token_is_reported_once_and_the_request_sent_again(
    call: Call, api: Api, broker: FakeBroker, name: tuple[str, str], first: str, second: str
) -> None:
    api.refuse_tokens(first)
    auth = BrokerAuth(*name)
    answer = call("POST", f"{api.url}/users", auth, data=b"a body", headers={"X-Own": "1"})
    assert (answer.status, answer.text) == (200, "ok")
    assert api.tokens == [first, second]
    assert [came.body for came in api.came] == [b"a body", b"a body"]
    assert {came.headers["X-Own"] for came in api.came} == {"1"}
    assert len(broker.reported) == 1
    assert call("GET", api.url, auth).status == 200
    assert len(broker.asked) == 2


def test_a_second_refusal_is_the_answer(call: Call, api: Api, broker: FakeBroker) -> None:
    api.reply = lambda _: REFUSED
    assert call("GET", api.url, BrokerAuth(*UNIDY)).status == 401
    assert api.tokens == [FIRST, SECOND]
    assert len(broker.reported) == 1


def test_without_another_token_the_refusal_is_the_answer(call: Call, api: Api, broker: FakeBroker) -> None:
    api.reply = lambda _: REFUSED
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
    api.reply = lambda _: REFUSED
    auth = BrokerAuth(*UNIDY)
    answer = broker._answer("/v1/tokens/unidy/eu-main", {}, timeout_s=1)
    asked: list[object] = []

    def same_again(_path: str, query: object, **_: object) -> object:
        asked.append(query)
        return answer

    monkeypatch.setattr(broker, "_ask", same_again)
    assert [call("GET", api.url, auth).status for _ in range(3)] == [401] * 3
    assert api.tokens == [FIRST] * 3
    assert len(asked) == 2, "the token, and one report of it"


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
def test_which_answers_count_as_a_refused_token(
    call: Call, api: Api, broker: FakeBroker, status: int, challenge: str, reported: bool
) -> None:
    api.reply = lambda came: (status, {"WWW-Authenticate": challenge}, b"") if came.token == FIRST else OK
    assert call("GET", api.url, BrokerAuth(*UNIDY)).status == (200 if reported else status)
    assert len(broker.reported) == reported


def test_a_redirect_within_the_origin_keeps_the_token(call: Call, api: Api, broker: FakeBroker) -> None:
    def reply(came: Came) -> Reply:
        if came.path == "/old":
            return redirect(f"{api.url}/new")
        return OK if came.token else REFUSED

    api.reply = reply
    for name in (UNIDY, SELLER):
        api.came.clear()
        answer = call("POST", f"{api.url}/old", BrokerAuth(*name), data=b"body")
        assert (answer.status, answer.text) == (200, "ok")
        assert api.came[-1].path == "/new"
        assert api.came[-1].body == b"body"
    assert broker.reported == []


@pytest.mark.parametrize("name", [UNIDY, SELLER], ids=["Authorization", "apiKey"])
@pytest.mark.parametrize("form", ["{elsewhere}/x", "//{host}/x", "http://localhost:{port}/x"])
def test_another_host_never_gets_the_token(
    call: Call, api: Api, elsewhere: Api, broker: FakeBroker, name: tuple[str, str], form: str
) -> None:
    host = elsewhere.url.removeprefix("http://")
    location = form.format(elsewhere=elsewhere.url, host=host, port=host.partition(":")[2])
    api.reply = lambda _: redirect(location, 302)
    elsewhere.reply = lambda _: REFUSED
    assert call("GET", f"{api.url}/file", BrokerAuth(*name)).status == 401
    assert elsewhere.tokens == [None]
    assert broker.reported == [], "the refusal of another host says nothing of the token"


@pytest.mark.parametrize("name", [UNIDY, SELLER], ids=["Authorization", "apiKey"])
def test_another_host_cannot_aim_the_token(
    call: Call, api: Api, elsewhere: Api, broker: FakeBroker, name: tuple[str, str]
) -> None:
    def reply(came: Came) -> Reply:
        return redirect(f"{elsewhere.url}/there") if came.path == "/start" else REFUSED

    api.reply = reply
    elsewhere.reply = lambda _: redirect(f"{api.url}/delete-all")
    assert call("POST", f"{api.url}/start", BrokerAuth(*name)).status == 401
    assert [(came.path, came.token is None) for came in api.came] == [("/start", False), ("/delete-all", True)]
    assert elsewhere.tokens == [None]
    assert broker.reported == []


@pytest.mark.parametrize("name", [UNIDY, SELLER], ids=["Authorization", "apiKey"])
def test_a_replay_that_is_redirected_elsewhere_goes_without_the_token(
    call: Call, api: Api, elsewhere: Api, broker: FakeBroker, name: tuple[str, str]
) -> None:
    api.reply = lambda came: REFUSED if (came.token or "").endswith("-1") else redirect(f"{elsewhere.url}/file", 302)
    assert call("GET", f"{api.url}/file", BrokerAuth(*name)).status == 200
    assert len(api.came) == 2
    assert elsewhere.tokens == [None]
    assert len(broker.reported) == 1


@pytest.mark.parametrize("name", [UNIDY, SELLER], ids=["Authorization", "apiKey"])
def test_a_replay_that_is_redirected_within_the_origin_keeps_the_new_token(
    call: Call, api: Api, broker: FakeBroker, name: tuple[str, str]
) -> None:
    def reply(came: Came) -> Reply:
        if came.token is None or came.token.endswith("-1"):
            return REFUSED
        return redirect(f"{api.url}/new") if came.path == "/old" else OK

    api.reply = reply
    assert call("GET", f"{api.url}/old", BrokerAuth(*name)).status == 200
    assert (api.came[-1].path, (api.came[-1].token or "")[-2:]) == ("/new", "-2")
    assert len(broker.reported) == 1


def test_a_request_is_replayed_once_along_all_its_redirects(call: Call, api: Api, broker: FakeBroker) -> None:
    api.reply = lambda came: redirect(f"{api.url}/new") if (came.path, came.token) == ("/old", SECOND) else REFUSED
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
def test_what_another_origin_is(url: str) -> None:
    assert origins(url) != origins("http://api.example/")


def test_what_the_same_origin_is() -> None:
    assert origins("http://api.example/x?y") == origins("HTTP://API.example:80/") != origins("http://api.example:81")


def test_the_brokers_refusal_is_raised(call: Call, api: Api, broker: FakeBroker) -> None:
    broker.fail("caller_not_allowed", detail="arn:aws:iam::123456789012:role/other")
    with pytest.raises(BrokerRefused, match="caller_not_allowed: arn:aws:iam::123456789012:role/other"):
        call("GET", api.url, BrokerAuth(*UNIDY))
    assert api.came == []


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
def test_a_body_that_is_gone_is_not_sent_again_and_the_token_is_reported(
    call: Call, api: Api, broker: FakeBroker
) -> None:
    api.refuse_tokens(FIRST)
    auth = BrokerAuth(*UNIDY)
    assert call("POST", api.url, auth, data=Once(b"body"), headers={"Content-Length": "4"}).status == 401
    assert [came.body for came in api.came] == [b"body"]
    assert len(broker.reported) == 1
    assert call("POST", api.url, auth, data=Once(b"body"), headers={"Content-Length": "4"}).status == 200


def test_requests_sends_a_file_again_from_where_it_stood(api: Api, broker: FakeBroker, tmp_path: Path) -> None:
    api.refuse_tokens(FIRST)
    path = tmp_path / "body"
    path.write_bytes(b"skipped|the rest")
    with path.open("rb") as file:
        file.seek(8)
        assert with_requests("PUT", api.url, BrokerAuth(*UNIDY), data=file).status == 200
    assert [came.body for came in api.came] == [b"the rest", b"the rest"]
    with io.BytesIO(b"form") as file:
        assert with_requests("POST", api.url, BrokerAuth(*UNIDY), files={"f": file}).status == 200
    assert len(broker.reported) == 1


def test_a_session_keeps_its_auth_over_many_requests(api: Api, broker: FakeBroker) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.auth = BrokerAuth(*UNIDY)
        api.refuse_tokens(FIRST)
        assert session.get(api.url, timeout=10).status_code == 200
        api.refuse_tokens(FIRST, SECOND)
        assert session.get(api.url, timeout=10).status_code == 200
    assert len(broker.reported) == 2


def test_a_prepared_request_can_be_sent_twice(api: Api, broker: FakeBroker) -> None:
    with requests.Session() as session:
        session.trust_env = False
        prepared = session.prepare_request(requests.Request("GET", api.url, auth=BrokerAuth(*UNIDY)))
        api.refuse_tokens(FIRST)
        assert session.send(prepared, timeout=10).status_code == 200
        api.refuse_tokens(FIRST, SECOND)
        assert session.send(prepared, timeout=10).status_code == 200
    assert len(broker.reported) == 2


@pytest.mark.usefixtures("broker")
def test_a_prepared_request_that_was_redirected_elsewhere_has_its_token_again(api: Api, elsewhere: Api) -> None:
    api.reply = lambda _: redirect(elsewhere.url, 302)
    with requests.Session() as session:
        session.trust_env = False
        prepared = session.prepare_request(requests.Request("GET", api.url, auth=BrokerAuth(*SELLER)))
        for _ in range(2):
            session.send(prepared, timeout=10)
    assert api.tokens == [SELLER_FIRST, SELLER_FIRST]
    assert elsewhere.tokens == [None, None]


def test_threads_that_are_refused_together_make_one_report(api: Api, broker: FakeBroker) -> None:
    auth = BrokerAuth(*UNIDY)
    auth.token()
    barrier = Barrier(20)

    def reply(came: Came) -> Reply:
        if came.token == FIRST:
            barrier.wait(10)
            return REFUSED
        return OK

    api.reply = reply
    statuses: list[int] = []
    threads = [Thread(target=lambda: statuses.append(with_requests("GET", api.url, auth).status)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == [200] * 20
    assert len(broker.reported) == 1


def test_an_auth_says_nothing_secret_of_itself_and_reads_nothing_when_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN_BROKER_URL", raising=False)
    assert repr(BrokerAuth(*UNIDY, scope="users:read")) == "BrokerAuth('unidy', 'eu-main', scope='users:read')"
    with FakeBroker() as broker:
        shown = repr(broker.token(*UNIDY))
    assert FIRST not in shown
    assert "token_id=" in shown


def test_an_auth_made_before_httpx_was_there_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.delitem(__import__("sys").modules, "httpx")
        auth = BrokerAuth(*UNIDY)
    assert not isinstance(auth, httpx.Auth)
    with pytest.raises(TypeError, match="import httpx before"):
        auth(httpx.Request("GET", "https://api.example"))
