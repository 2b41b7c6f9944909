"""Samples in the documentation are what they claim to be: a file of the repository, valid settings, working code."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from samtranslator.yaml_helper import yaml_parse

from local.process import ROOT
from local.providers import PUBLIC_CLIENT_ACCOUNT, ProvidersServer, control, start_providers
from tests.docs.markdown import PAGES, Block, Page, page
from tests.openapi.bodies import SCHEMAS
from token_broker.catalogue import load_catalogue
from token_broker.core.connections import parse_connection
from token_broker.core.names import ConnectionName

CATALOGUE: Final = ROOT / "layers" / "broker" / "token_broker" / "catalogue"
NAMED: Final = re.compile(r"# (\w+\.py)\n")


def blocks(language: str) -> list[tuple[Page, Block]]:
    """The code blocks of all pages in this language."""
    return [(document, block) for document in PAGES for block in document.blocks(language)]


def each(language: str) -> pytest.MarkDecorator:
    """Runs a test for each code block in this language."""
    found = blocks(language)
    return pytest.mark.parametrize(("document", "block"), found, ids=[str(document) for document, _ in found])


def named_files(document: Page) -> dict[str, str]:
    """The Python files that a page tells the reader to write, by name: their first line is `# NAME.py`."""
    found = [(NAMED.match(block.text), block.text) for block in document.blocks("python")]
    return {name[1]: text for name, text in found if name}


def check_settings(provider: str, connection: str, settings: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for settings that the broker refuses."""
    parse_connection(ConnectionName.of(provider, connection), load_catalogue()[provider], settings, insecure_urls=True)


def test_a_catalogue_file_is_shown_as_it_is() -> None:
    shown = []
    for _, block in blocks("toml"):
        if name := re.search(r"`([\w-]+\.toml)`", block.before):
            assert block.text == (CATALOGUE / name[1]).read_text(encoding="utf-8")
            shown.append(name[1])
    assert shown == ["unidy.toml"]


def test_connections_as_code_are_valid_settings() -> None:
    count = 0
    for document, block in blocks("toml"):
        for provider, connections in tomllib.loads(block.text).items():
            if str(document) == "docs/platform-engineers.md":
                for connection, settings in connections.items():
                    check_settings(provider, connection, settings)
                    count += 1
    assert count > 0


def test_the_first_own_connection_is_valid_and_at_the_simulated_server() -> None:
    text = page("README.md").text
    here_document = re.search(r"<<'END'\n(.*?)\nEND\n", text, re.DOTALL)
    command = re.search(r"echo '(.*)' \| \S*token-broker connections add (\S+) (\S+)", text)
    assert here_document is not None
    assert command is not None
    settings = tomllib.loads(here_document[1])
    check_settings(command[2], command[3], settings)
    assert settings["token_url"] == "http://127.0.0.1:4600/oauth2/token"
    assert json.loads(command[1]) == PUBLIC_CLIENT_ACCOUNT["secret"]


@each("json")
def test_a_json_sample_is_json(document: Page, block: Block) -> None:
    assert json.loads(block.text), str(document)


def test_the_readme_shows_every_field_of_a_token_response() -> None:
    (block,) = page("README.md").blocks("json")
    assert set(json.loads(block.text)) == set(SCHEMAS["Token"]["required"])


def test_the_deploy_page_shows_the_policy_of_the_template() -> None:
    (block,) = page("docs/deploy.md").blocks("json")
    outputs = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))["Outputs"]
    policy = outputs["CallerPolicy"]["Value"]["Fn::Sub"]
    for variable, placeholder in {
        "${AWS::Partition}": "aws",
        "${AWS::Region}": "REGION",
        "${AWS::AccountId}": "ACCOUNT",
        "${TokenBrokerApi}": "API",
        "PROVIDER/CONNECTION": "unidy/eu-main",
    }.items():
        policy = policy.replace(variable, placeholder)
    assert json.loads(block.text) == json.loads(policy)["Statement"][0]


@each("yaml")
def test_a_template_sample_is_a_function_that_the_client_library_understands(document: Page, block: Block) -> None:
    (function,) = yaml_parse(block.text).values()
    assert function["Type"] == "AWS::Serverless::Function", str(document)
    (statement,) = function["Properties"]["Policies"][0]["Statement"]
    assert statement["Action"] == "execute-api:Invoke"
    assert re.search(r"/GET/v1/tokens/[\w-]+/[\w-]+$", statement["Resource"]["Fn::Sub"])
    library = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("layers/client/token_broker_client/*.py"))
    for variable in function["Properties"]["Environment"]["Variables"]:
        assert f'"{variable}"' in library


@each("python")
def test_a_python_sample_compiles_and_imports_what_exists(document: Page, block: Block) -> None:
    for node in ast.walk(ast.parse(block.text, str(document))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("token_broker"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), alias.name


@pytest.mark.parametrize("inside_the_checkout", [False, True])
def test_the_sample_of_a_test_passes(tmp_path: Path, inside_the_checkout: bool) -> None:
    """Also below this repository's pyproject.toml, with a Python that has not the plugins of its tests."""
    document = page("docs/service-developers.md")
    for name, text in named_files(document).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    if inside_the_checkout:
        shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shown = re.search(r"^\$ service/bin/python -m (pytest [^#\n]*)", document.text, re.MULTILINE)
    assert shown is not None
    ended = subprocess.run(
        [sys.executable, "-m", *shown[1].split(), "-p", "no:cacheprovider", "-p", "no:socket"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "layers" / "client")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert "1 passed" in ended.stdout


@pytest.fixture(scope="module")
def providers() -> Iterator[ProvidersServer]:
    with start_providers() as running:
        yield running


@pytest.mark.parametrize("document", PAGES, ids=str)
def test_every_command_to_a_simulated_provider_is_one(document: Page, providers: ProvidersServer) -> None:
    for text, slug in re.findall(r"-d '(\{.*?\})' http://127\.0\.0\.1:4600/_control/([\w-]+)", document.text):
        control.apply(providers.simulator(slug), json.loads(text))
