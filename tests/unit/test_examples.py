"""Each provider's file passes its examples, and a file that makes another request does not."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import token_broker.catalogue
from tests.unit.grant_requests import CATALOGUE, NOW
from token_broker.catalogue.example_run import run_example
from token_broker.catalogue.examples import Examples, read_examples
from token_broker.catalogue.proof import examples_beside, proof_of
from token_broker.core.provider_files import CatalogueError

DIRECTORY = Path(token_broker.catalogue.__file__).parent
FILES = {slug: examples_beside(DIRECTORY / f"{slug}.toml") for slug in sorted(CATALOGUE)}
# Two examples with everything that can differ, in the form of a file.
FORM: dict[str, Any] = tomllib.loads(FILES["oauth2"].read_text())
JSON: dict[str, Any] = tomllib.loads(FILES["unidy"].read_text())


@pytest.mark.parametrize("slug", FILES)
def test_every_provider_passes_its_examples(slug: str) -> None:
    examples = read_examples(FILES[slug])
    found = {example.title: run_example(CATALOGUE[slug], example, NOW) for example in examples.examples}
    assert found == {example.title: [] for example in examples.examples}


@pytest.mark.parametrize("slug", FILES)
def test_every_provider_has_an_example_of_a_refusal(slug: str) -> None:
    errors = {example.result.error for example in read_examples(FILES[slug]).examples}
    assert "provider_refused" in errors


@pytest.mark.parametrize("slug", FILES)
def test_the_word_is_read_without_the_examples(slug: str) -> None:
    assert proof_of(DIRECTORY / f"{slug}.toml") == read_examples(FILES[slug]).proof


@pytest.mark.parametrize("text", ["", 'proof = "certain"', "proof =", 'proof = ["documented"]'])
def test_a_file_without_a_word_proves_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "acme.toml").write_text(text)
    assert proof_of(tmp_path / "acme.toml") == proof_of(tmp_path / "absent.toml") == "none"


def read(tmp_path: Path, document: dict[str, Any]) -> Examples:
    """The examples in a document, by way of a file."""
    path = tmp_path / "example.toml"
    path.write_text(toml(document))
    return read_examples(path)


def toml(document: dict[str, Any]) -> str:
    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{" + ", ".join(f'"{name}" = {value(inner)}' for name, inner in item.items()) + "}"
        if isinstance(item, list):
            return "[" + ", ".join(map(value, item)) + "]"
        if isinstance(item, bool):
            return str(item).lower()
        return repr(item) if isinstance(item, (str, int, float)) else str(item)

    return "\n".join(f'"{name}" = {value(item)}' for name, item in document.items())


def changed(document: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The document with its first example changed."""
    copied = copy.deepcopy(document)
    change(copied["example"][0])
    return copied


@pytest.mark.parametrize(
    ("slug", "document", "change", "at_fault"),
    [
        ("oauth2", FORM, lambda e: e["request"].update(method="GET"), {"request.method"}),
        ("oauth2", FORM, lambda e: e["request"].update(url="https://server.example.com/tokens"), {"request.url"}),
        ("oauth2", FORM, lambda e: e["request"].update(url=e["request"]["url"] + "?a=b"), {"request.query.a"}),
        ("oauth2", FORM, lambda e: e["request"]["form"].update(scope="a"), {"request.form.scope"}),
        ("oauth2", FORM, lambda e: e["request"]["form"].update(grant_type="password"), {"request.form.grant_type"}),
        ("oauth2", FORM, lambda e: e["request"]["form"].pop("grant_type"), {"request.form.grant_type"}),
        ("oauth2", FORM, lambda e: e["request"].pop("form"), {"request.body"}),
        ("oauth2", FORM, lambda e: e["request"]["headers"].pop("Authorization"), {"request.headers.authorization"}),
        ("oauth2", FORM, lambda e: e["request"]["headers"].update(X="1"), {"request.headers.x"}),
        ("oauth2", FORM, lambda e: e["secret"].update(client_id="other"), {"request.headers.authorization"}),
        ("unidy", JSON, lambda e: e["request"]["json"].update(client_id=1), {"request.json.client_id"}),
        ("unidy", JSON, lambda e: e["request"]["json"].update(extra={"a": [1]}), {"request.json.extra"}),
        ("unidy", JSON, lambda e: e["request"].update(text="{}") or e["request"].pop("json"), {"request.text"}),
        ("unidy", JSON, lambda e: e["request"]["json"].update(scope="{uuid}"), {"request.json.scope"}),
        ("unidy", JSON, lambda e: e["request"]["json"].update(scope="{now}"), {"request.json.scope"}),
        ("unidy", JSON, lambda e: e["result"].update(token="another"), {"result.token"}),
        ("unidy", JSON, lambda e: e["result"].update(expires_in_s=7199), {"result.expires_in_s"}),
        ("unidy", JSON, lambda e: e["result"].update(scope="users:read"), {"result.scope"}),
        ("unidy", JSON, lambda e: e["result"].update(refresh_token="r"), {"result.refresh_token"}),
        ("unidy", JSON, lambda e: e["result"].update(api_base_url="https://x.example"), {"result.api_base_url"}),
        ("unidy", JSON, lambda e: e["result"]["headers"].update(Authorization="x"), {"result.headers.Authorization"}),
        ("unidy", JSON, lambda e: e["response"].update(status=503), {"result.error"}),
        ("unidy", JSON, lambda e: e["settings"].clear(), {"result.error"}),
        ("unidy", JSON, lambda e: e["secret"].pop("client_secret"), {"result.error"}),
        ("unidy", JSON, lambda e: e.update(result={"error": "provider_refused"}), {"result.error"}),
    ],
)  # fmt: skip
def test_a_difference_is_found_where_it_is(
    tmp_path: Path, slug: str, document: dict[str, Any], change: Callable[[dict[str, Any]], object], at_fault: set[str]
) -> None:
    # The first example must stay one with a token, so the changed one comes second.
    whole = {**document, "example": [document["example"][0], changed(document, change)["example"][0]]}
    example = read(tmp_path, whole).examples[1]
    assert {fault.field for fault in run_example(CATALOGUE[slug], example, NOW)} == at_fault


def consent_example(slug: str) -> dict[str, Any]:
    """The first example of how consent is given, from a provider's file of examples."""
    whole = tomllib.loads(FILES[slug].read_text())
    return {**whole, "example": [next(example for example in whole["example"] if "consent" in example)]}


@pytest.mark.parametrize(
    ("slug", "change", "at_fault"),
    [
        ("etsy", lambda e: e["consent"].update(authorize=e["consent"]["authorize"] + "&a=b"), {"authorize.query.a"}),
        ("etsy", lambda e: e["consent"].update(authorize="https://www.etsy.com/x"), None),
        ("etsy", lambda e: e["consent"].update(redirect="https://shop.example.com/consent?code=c"), {"result.error"}),
        ("etsy", lambda e: e["consent"].update(redirect=e["consent"]["redirect"] + "&iss=https://x"), {"result.error"}),
        ("etsy", lambda e: e["request"]["form"].update(code="other"), {"request.form.code"}),
        ("etsy", lambda e: e["request"]["form"].update(code_verifier="v" * 44), {"request.form.code_verifier"}),
        ("etsy", lambda e: e["request"]["form"].pop("code_verifier"), {"request.form.code_verifier"}),
        ("etsy", lambda e: e["result"].update(refresh_token="other"), {"result.refresh_token"}),
        ("mercado-libre", lambda e: e["result"].update(account="other"), {"result.account"}),
        ("lightspeed-retail-x", lambda e: e["settings"].update(domain_prefix="other"), None),
        ("shopee", lambda e: e["secret"].update(client_secret="other"), {"authorize.query.sign", "request.query.sign"}),
        ("shopee", lambda e: e["request"]["json"].update(partner_id="2001234"), {"request.json.partner_id"}),
        ("unidy", lambda e: e["request"].update(url="https://x.example"), {"result.error"}),
    ],
)  # fmt: skip
def test_a_difference_in_how_consent_is_given_is_found(
    tmp_path: Path, slug: str, change: Callable[[dict[str, Any]], object], at_fault: set[str] | None
) -> None:
    document = consent_example("etsy" if slug == "unidy" else slug)
    example = read(tmp_path, changed(document, change)).examples[0]
    found = {fault.field.removeprefix("consent.") for fault in run_example(CATALOGUE[slug], example, NOW)}
    assert found == at_fault if at_fault is not None else found


def test_the_failure_rule_is_compared(tmp_path: Path) -> None:
    document = copy.deepcopy(JSON)
    document["example"][1]["result"]["rule"] = "scope_refused"
    (fault,) = run_example(CATALOGUE["unidy"], read(tmp_path, document).examples[1], NOW)
    assert str(fault) == 'result.rule: must be "scope_refused", and is "client_refused"'


def test_an_exchange_too_many_is_found(tmp_path: Path) -> None:
    document = changed(JSON, lambda e: e.update(before=[{"response": {"status": 302}}]))
    example = read(tmp_path, {**document, "example": [JSON["example"][0], document["example"][0]]}).examples[1]
    assert "before" in {fault.field for fault in run_example(CATALOGUE["unidy"], example, NOW)}


@pytest.mark.parametrize("slug", FILES)
def test_no_difference_shows_a_credential(tmp_path: Path, slug: str) -> None:
    """Requests and results of another account: every credential differs."""
    document: dict[str, Any] = tomllib.loads(FILES[slug].read_text())
    secrets = {f"{value}-hidden" for e in document["example"] for value in e["secret"].values()}
    for example in document["example"]:
        example["secret"] = {name: f"{value}-hidden" for name, value in example["secret"].items()}
        example["response"] = {**example["response"], "status": 200}
    examples = read(tmp_path, document).examples
    text = "".join(str(fault) for example in examples for fault in run_example(CATALOGUE[slug], example, NOW))
    assert text
    assert not [secret for secret in secrets if secret in text or secret.removesuffix("-hidden") in text.split('"')]


@pytest.mark.parametrize(
    ("change", "at_fault"),
    [
        (lambda d: d.pop("proof"), {"proof"}),
        (lambda d: d.update(proof="certain"), {"proof"}),
        (lambda d: d.update(read_on="2026-11-28"), {"read_on"}),
        (lambda d: d.update(source="the vendor's page"), {"source"}),
        (lambda d: d.update(example=[]), {"example"}),
        (lambda d: d.update(exampel=1), {"exampel"}),
        (lambda d: d["example"].reverse(), {"example"}),
        (lambda d: d["example"][0].update(titel="x"), {"example 1.titel"}),
        (lambda d: d["example"][0].pop("response"), {"example 1.response", "example 1.response.status"}),
        (lambda d: d["example"][0]["request"].update(form={}), {"example 1.request.json"}),
        (lambda d: d["example"][0]["request"].update(url="/token"), {"example 1.request.url"}),
        (lambda d: d["example"][0]["request"].update(header={}), {"example 1.request.header"}),
        (lambda d: d["example"][0]["request"].update(headers={"WM": {"NAME": "x"}}), {"example 1.request.headers"}),
        (lambda d: d["example"][0]["response"].update(status=99), {"example 1.response.status"}),
        (lambda d: d["example"][0]["result"].update(error="provider_refused"), {"example 1.result.token"}),
        (lambda d: d["example"][0]["result"].update(expires_in=7200), {"example 1.result.expires_in"}),
        (lambda d: d["example"][0].update(now="noon"), {"example 1.now"}),
    ],
)
def test_an_invalid_file_of_examples_names_the_field(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], at_fault: set[str]
) -> None:
    document = copy.deepcopy(JSON)
    change(document)
    with pytest.raises(CatalogueError) as raised:
        read(tmp_path, document)
    assert {fault.field for fault in raised.value.faults} == at_fault
