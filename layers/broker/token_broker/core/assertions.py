"""What a provider's file says of signed assertions (RFC 7523), in its section [assertion]."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from token_broker.core.templates import expand_fields, names_in, parse_value
from token_broker.core.validation import Fields, flag, mapping, one_of, whole

Algorithm = Literal["RS256", "PS256", "ES256"]
Placement = Literal["assertion", "client_assertion"]
ALGORITHMS = ("RS256", "PS256", "ES256")
# RFC 7523 section 2.1: the assertion is the grant. Section 2.2: it authenticates the client.
PLACEMENTS = ("assertion", "client_assertion")

PRIVATE_KEY = "private_key"
CERTIFICATE = "certificate"
# Fields of a secret that have more than one line.
PEM_FIELDS = frozenset({PRIVATE_KEY, CERTIFICATE})
# The connection's setting that says where the key is: in the secret, or in KMS.
SIGNING_KEY = "signing_key"
SIGNING_KEYS = ("secret", "kms")

DEFAULT_LIFETIME_S = 300
MAX_LIFETIME_S = 3600
HEADER_OF_SIGNER = ("alg", "typ", "x5t#S256")
CLAIMS_OF_SIGNER = ("iat", "exp", "jti")
NEEDED_CLAIMS = ("iss", "aud")


@dataclass(frozen=True, slots=True)
class AssertionSpec:
    """How to make an assertion. `header` and `claims`: templates, beside what the signer sets itself.

    `with_thumbprint`: the header names the secret's certificate (x5t#S256, RFC 7515 section 4.1.8).
    """

    placement: Placement
    algorithm: Algorithm
    lifetime_s: int
    with_thumbprint: bool
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    @property
    def names(self) -> frozenset[str]:
        """The names that its templates use."""
        return frozenset((*names_in(self.header), *names_in(self.claims)))

    def expanded(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims with their values. Those without a value are left out."""
        return expand_fields(self.header, values), expand_fields(self.claims, values)


def parse_assertion(top: Fields, credentials: Collection[str]) -> AssertionSpec | None:
    """Reads the section of a file, and adds its faults. `credentials`: all fields that a secret can have."""
    if "assertion" not in top.data:
        top.known.add("assertion")
        return None
    section = top.section("assertion")
    no_table: Mapping[str, Any] = {}
    spec = AssertionSpec(
        placement=section.take("as", one_of(PLACEMENTS), "assertion", required=True),  # type: ignore[arg-type]  # one_of narrows to the Literal's words
        algorithm=section.take("alg", one_of(ALGORITHMS), "RS256", required=True),  # type: ignore[arg-type]  # as above
        lifetime_s=section.take("lifetime_s", whole(30, MAX_LIFETIME_S), DEFAULT_LIFETIME_S),
        with_thumbprint=section.take("x5t_s256", flag, False),
        header=section.take("header", _templates, no_table),
        claims=section.take("claims", _templates, no_table, required=True),
    )
    for table, taken in (("header", HEADER_OF_SIGNER), ("claims", CLAIMS_OF_SIGNER)):
        for name in taken:
            if name in section.data.get(table, {}):
                section.fault(f"{table}.{name}", "is set by the broker")
    for name in NEEDED_CLAIMS:
        if spec.claims and name not in spec.claims:
            section.fault(f"claims.{name}", "is required (RFC 7523 section 3)")
    if PRIVATE_KEY not in credentials:
        top.fault("credentials", f"must hold {PRIVATE_KEY} for an assertion")
    if spec.with_thumbprint and CERTIFICATE not in credentials:
        section.fault("x5t_s256", f"needs {CERTIFICATE} among the credentials")
    for name in sorted(spec.names & {f"secret:{field}" for field in PEM_FIELDS}):
        section.fault("claims", f"cannot use {{{name}}}: it is sent to the provider")
    section.fault_unknown_fields()
    return spec


def _templates(value: Any) -> Mapping[str, Any]:
    return {name: parse_value(item) for name, item in mapping(value).items()}
