"""What `make run` prints leads somewhere: a page that opens, and lines for a caller's shell."""

import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import boto3
import pytest
import requests

from local.__main__ import main
from local.aws import REGION
from local.client import SignedClient
from local.connections import NAME
from local.ports import listen, port_of
from local.run import introduction
from local.sigv4 import LOCAL, Caller
from local.stack import Options, Stack
from token_broker.catalogue import BUILT_IN
from token_broker_client import BrokerAuth, TokenBroker


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    logs, own_files = tmp_path_factory.mktemp("logs"), tmp_path_factory.mktemp("providers")
    shutil.copy(BUILT_IN / "oauth2.toml", own_files / "acme.toml")
    options = Options(
        api_environments=1, worker_environments=1, ticks=False, pages=True, log_dir=logs, provider_files=own_files
    )
    with Stack(options) as stack:
        yield stack


@pytest.fixture
def printed(stack: Stack) -> str:
    return introduction(stack, for_sam_local=False)


def test_the_first_url_opens_without_a_signature(printed: str) -> None:
    first = re.search(r"http://\S+", printed)
    assert first is not None
    response = requests.get(first[0], timeout=5)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")


def test_the_base_url_is_the_console_which_a_link_opens(stack: Stack) -> None:
    with requests.Session() as browser:
        assert browser.get(stack.url, timeout=5).status_code == 401
        link = re.search(r"http://\S+/open\?code=\S+", introduction(stack, for_sam_local=False))
        assert link is not None
        assert browser.get(link[0], timeout=5).status_code == 200
        assert "/connections/unidy/demo" in browser.get(stack.url, timeout=5).text


def test_the_export_lines_are_all_that_a_caller_needs(printed: str) -> None:
    exported = dict(re.findall(r"^ *export (\w+)=(\S+)$", printed, re.MULTILINE))
    caller = Caller(exported["AWS_ACCESS_KEY_ID"], exported["AWS_SECRET_ACCESS_KEY"], LOCAL.arn)
    with closing(SignedClient(exported["TOKEN_BROKER_URL"], caller, region=exported["AWS_REGION"])) as client:
        assert client.call("GET", "/v1/tokens/unidy/demo").status == 200


def test_provider_files_of_a_directory_are_used(stack: Stack) -> None:
    with closing(SignedClient(stack.url)) as client:
        found = client.call("GET", "/v1/providers").body["providers"]
    assert "acme" in {provider["slug"] for provider in found}


def test_the_curl_line_is_one_line_and_names_a_demo_connection(printed: str, stack: Stack) -> None:
    lines = [shlex.split(line) for line in printed.splitlines() if line.strip().startswith("curl ")]
    assert [line[-1] for line in lines] == [f"{stack.url}/v1/tokens/unidy/demo"]
    assert "--aws-sigv4" in lines[0]


def test_it_says_that_everything_is_lost(printed: str) -> None:
    assert any("Ctrl-C" in line and "lost" in line for line in printed.splitlines())


def test_the_outage_command_takes_the_broker_down_and_up_and_leaves_the_providers(printed: str, stack: Stack) -> None:
    down = re.search(r"python -m local (broker down.*)$", printed, re.MULTILINE)
    assert down is not None
    now = time.time()
    session = boto3.Session(LOCAL.access_key, LOCAL.secret_key, region_name=REGION)
    with closing(TokenBroker(stack.url, session=session, clock=lambda: now, sleep=lambda _: None)) as broker:
        auth = BrokerAuth("unidy", NAME, broker=broker)
        resource = f"{stack.providers_url}/unidy/api/resource"
        assert requests.get(resource, auth=auth, timeout=5).status_code == 200
        now += 301  # the client asks the broker again
        try:
            assert local(down[1]) == 0
            assert requests.get(resource, auth=auth, timeout=5).status_code == 200
            with pytest.raises(requests.ConnectionError), closing(SignedClient(stack.url)) as client:
                client.call("GET", f"/v1/tokens/unidy/{NAME}")
            with pytest.raises(requests.ConnectionError):
                requests.get(f"{stack.url}/docs", timeout=5)
        finally:
            assert local(down[1].replace("down", "up")) == 0
        now += 301
        assert requests.get(resource, auth=auth, timeout=5).status_code == 200


def local(command: str) -> int:
    """The exit status of `python -m local`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["local", *command.split()])
        return main()


def test_a_web_page_cannot_start_an_outage(stack: Stack) -> None:
    url = f"{stack.url}/_local/broker/down"
    assert requests.post(url, headers={"Origin": "https://evil.example"}, timeout=5).status_code == 403
    assert requests.get(f"{stack.url}/docs", timeout=5).status_code == 200


def test_the_outage_command_says_that_there_is_no_stack(capsys: pytest.CaptureFixture[str]) -> None:
    with closing(listen(0)) as listener:
        port = port_of(listener)
    assert local(f"broker down --port {port}") == 1
    assert f"no local stack on port {port}" in capsys.readouterr().err
