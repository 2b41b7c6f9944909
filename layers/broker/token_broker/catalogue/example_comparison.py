"""Compares a request with the one that a vendor documents. No difference ever shows a credential."""

from __future__ import annotations

import hmac
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus

from token_broker.catalogue.example_keys import example_keys
from token_broker.catalogue.examples import GENERATED, SIGNATURE, Body, ExpectedJwt, ExpectedRequest
from token_broker.core.validation import CREDENTIAL_NAME
from token_broker.errors import FieldError
from token_broker.oauth.exchange import HttpRequest

# Headers that an example need not name. What they say is compared with the body.
USUAL_HEADERS = frozenset({"accept", "content-type", "content-length", "host", "user-agent", "accept-encoding"})
CREDENTIAL_HEADER = re.compile("authorization|cookie|key", re.IGNORECASE)
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# RFC 7636 sections 4.1 and 4.2
PKCE = {
    "{code_challenge}": re.compile("[A-Za-z0-9_-]{43}"),
    "{code_verifier}": re.compile("[A-Za-z0-9._~-]{43,128}"),
}
MAX_CLOCK_DIFFERENCE_S = 600
MAX_ASSERTION_LIFETIME_S = 3600


@dataclass(frozen=True, slots=True)
class RequestComparison:
    """Compares requests of one example. `credentials`: the values of its secret. `now`: when the request was made."""

    credentials: Collection[Any]
    now: datetime

    def differences(self, expected: ExpectedRequest, sent: HttpRequest) -> list[FieldError]:
        return [FieldError(name, reason) for name, reason in self._differences(expected, sent)]

    def _differences(self, expected: ExpectedRequest, sent: HttpRequest) -> Iterator[tuple[str, str]]:
        yield from self.values("request.method", expected.method, sent.method)
        yield from self.values("request.url", expected.url, sent.url)
        yield from self._pairs("request.query", signed_pairs(expected.query, sent.query), sent.query)
        yield from self._headers(expected.headers, {name.lower(): value for name, value in sent.headers.items()})
        yield from self._body(expected.body, sent)
        if expected.jwt is not None:
            yield from self._jwt(expected.jwt, expected.body, sent.body or b"")

    def values(self, name: str, expected: Any, sent: Any) -> Iterator[tuple[str, str]]:
        """The differences of two JSON values. 1, 1.0 and true differ. A generated value is checked by its shape."""
        if isinstance(expected, str) and expected in GENERATED:
            if not self._has_shape(expected, sent):
                yield name, f"must be a value for {expected}"
        elif isinstance(expected, Mapping) and isinstance(sent, Mapping):
            yield from self._members(name, expected, sent, expected.keys() | sent.keys())
        elif isinstance(expected, list) and isinstance(sent, list) and len(expected) == len(sent):
            for index, (item, sent_item) in enumerate(zip(expected, sent, strict=True)):
                yield from self.values(f"{name}.{index}", item, sent_item)
        elif type(expected) is not type(sent) or expected != sent:
            yield name, self._difference(name, expected, sent)

    def _headers(self, expected: Mapping[str, str], sent: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        names = expected.keys() | (sent.keys() - USUAL_HEADERS)
        yield from self._members("request.headers", expected, sent, names)

    def _members(
        self, name: str, expected: Mapping[str, Any], sent: Mapping[str, Any], keys: Collection[str]
    ) -> Iterator[tuple[str, str]]:
        for key in keys:
            if key not in sent:
                yield f"{name}.{key}", "is missing"
            elif key not in expected:
                yield f"{name}.{key}", "is sent, but not in the example"
            else:
                yield from self.values(f"{name}.{key}", expected[key], sent[key])

    def _pairs(
        self, name: str, expected: Collection[tuple[str, str]], sent: Collection[tuple[str, str]]
    ) -> Iterator[tuple[str, str]]:
        """Names and values in any order. The values of a repeated name are compared as a list."""
        yield from self.values(name, _by_name(expected), _by_name(sent))

    def _body(self, expected: Body | None, sent: HttpRequest) -> Iterator[tuple[str, str]]:
        body = sent.body or b""
        if expected is None:
            if body:
                yield "request.body", "is sent, but not in the example"
            return
        media_type = next((value for name, value in sent.headers.items() if name.lower() == "content-type"), "")
        wanted = {"form": "application/x-www-form-urlencoded", "json": "application/json"}.get(expected.kind, "")
        if not media_type.lower().startswith(wanted):
            yield "request.headers.content-type", f"must be {wanted}, and is {media_type or 'missing'}"
        name = f"request.{expected.kind}"
        try:
            text = body.decode()
            if expected.kind == "form":
                fields = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
                yield from self._pairs(name, _form_pairs(expected.value), fields)
            else:
                yield from self.values(name, expected.value, json.loads(text) if expected.kind == "json" else text)
        except ValueError:
            yield name, "is not in this encoding"

    def _has_shape(self, generated: str, sent: Any) -> bool:
        if generated == "{uuid}":
            return isinstance(sent, str) and UUID.fullmatch(sent) is not None
        if generated == "{jwt}":
            return isinstance(sent, str) and example_keys().read_jwt(sent) is not None
        if generated == "{x5t_s256}":
            return bool(sent == example_keys().x5t_s256)
        if generated in PKCE:
            return isinstance(sent, str) and PKCE[generated].fullmatch(sent) is not None
        unit = 1000 if generated == "{now_ms}" else 1
        return str(sent).isdecimal() and abs(int(sent) / unit - self.now.timestamp()) <= MAX_CLOCK_DIFFERENCE_S

    def _jwt(self, expected: ExpectedJwt, body: Body | None, sent: bytes) -> Iterator[tuple[str, str]]:
        """The assertion in the form field whose value is `{jwt}`."""
        name = next((name for name, value in _form_pairs(body.value if body else {}) if value == "{jwt}"), "")
        read = example_keys().read_jwt(dict(parse_qsl(sent.decode())).get(name, ""))
        if read is None:
            yield "request.jwt", "is not signed with the key of the example"
            return
        header, claims = read
        yield from self.values("request.jwt.header", expected.header, {n: header.get(n) for n in expected.header})
        yield from self.values("request.jwt.claims", expected.claims, {n: claims.get(n) for n in expected.claims})
        yield from self._own_claims(claims)

    def _own_claims(self, claims: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        issued_at = claims.get("iat")
        expires_at = claims.get("exp")
        if not self._has_shape("{now}", issued_at):
            yield "request.jwt.claims.iat", "must be now"
        elif not isinstance(expires_at, int) or not 0 < expires_at - int(str(issued_at)) <= MAX_ASSERTION_LIFETIME_S:
            yield "request.jwt.claims.exp", "must be at most an hour after iat"
        if not isinstance(claims.get("jti"), str) or not claims["jti"]:
            yield "request.jwt.claims.jti", "is missing"

    def _difference(self, name: str, expected: Any, sent: Any) -> str:
        """Both values, unless one of them is or holds a credential."""
        last = name.rpartition(".")[2].lower()
        is_credential = CREDENTIAL_NAME.search(last.replace("-", "_")) or CREDENTIAL_HEADER.search(last)
        texts = [json.dumps(value, default=str) for value in (expected, sent)]
        known = [str(credential) for credential in self.credentials if credential]
        forms = [form for text in known for form in (text, quote(text, safe=""), quote_plus(text))]
        if is_credential or any(form in text for form in forms for text in texts):
            return "differs (a credential is not shown)"
        return f"must be {texts[0]}, and is {texts[1]}"


def signed_pairs(expected: Collection[tuple[str, str]], sent: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
    """The expected query with the signature of what was sent."""
    values = dict(sent)

    def signed(value: str) -> str:
        match = SIGNATURE.fullmatch(value)
        if match is None:
            return value
        message = re.sub(r"\{query:([^}]+)\}", lambda name: values.get(name[1], ""), match[3])
        digest = hmac.digest(match[2].encode(), message.encode(), "sha256").hex()
        return digest if match[1].islower() else digest.upper()

    return [(name, signed(value)) for name, value in expected]


def _by_name(pairs: Collection[tuple[str, str]]) -> dict[str, Any]:
    """Pairs as an object. A repeated name has the list of its values."""
    count = Counter(name for name, _ in pairs)
    repeated = {name: [value for other, value in pairs if other == name] for name, times in count.items() if times > 1}
    return {**dict(pairs), **repeated}


def _form_pairs(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, item) for name, value in fields.items() for item in (value if isinstance(value, list) else [value])]
