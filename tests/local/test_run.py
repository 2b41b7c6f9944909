"""What `make run` prints leads somewhere: a page that opens, and lines for a caller's shell."""

import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import closing

import pytest
import requests

from local.client import SignedClient
from local.run import introduction
from local.sigv4 import LOCAL, Caller
from local.stack import Options, Stack
from token_broker.catalogue import BUILT_IN


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
