"""What a provider's file says of signed assertions (RFC 7523), in its section [assertion]."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from token_broker.core.templates import Template, expand_fields
from token_broker.core.validation import Fields, flag, one_of, whole

ALGORITHMS = ("RS256", "PS256", "ES256")
# RFC 7523 section 2.1: the assertion is the grant. Section 2.2: it authenticates the client.
GRANT = "assertion"
CLIENT = "client_assertion"

PRIVATE_KEY = "private_key"
CERTIFICATE = "certificate"
# Fields of a secret in PEM form, which has several lines. They are never sent.
PEM_FIELDS = (PRIVATE_KEY, CERTIFICATE)
# The connection's setting that says where the private key is.
SIGNING_KEY = "signing_key"
IN_SECRET = "secret"  # noqa: S105  # a name
IN_KMS = "kms"

DEFAULT_LIFETIME_S = 300
MAX_LIFETIME_S = 3600
SET_BY_SIGNER = {"header": ("alg", "typ", "x5t#S256"), "claims": ("iat", "exp", "jti")}
NEEDED_CLAIMS = ("iss", "aud")


@dataclass(frozen=True, slots=True)
class AssertionSpec:
    """How to make an assertion. `header` and `claims`: templates, beside what the signer sets itself.

    `authenticates_client`: it is sent as client_assertion; otherwise the grant has a place for it. `algorithm`: can
    name a setting. `with_thumbprint`: the header names the secret's certificate (x5t#S256, RFC 7515 section 4.1.8).
    """

    authenticates_client: bool
    algorithm: Template
    lifetime_s: int
    with_thumbprint: bool
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    def expanded(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims with their values. Those without a value are left out."""
        return expand_fields(self.header, values), expand_fields(self.claims, values)


def parse_assertion(
    section: Fields,
    credentials: Collection[str],
    *,
    grant_takes_it: bool,
    word: Callable[[Fields, str, tuple[str, ...], str], Template],
    templates: Callable[[Fields, str], Mapping[str, Any]],
) -> AssertionSpec:
    """Reads the section and adds its faults. `credentials`: the fields that a secret can have.

    `word` reads one of a few words or the name of a setting, `templates` a table of templates.
    """
    placement: str = section.take("as", one_of((GRANT, CLIENT)), GRANT, required=True)
    if "alg" not in section.data:
        section.fault("alg", "is required")
    spec = AssertionSpec(
        authenticates_client=placement == CLIENT,
        algorithm=word(section, "alg", ALGORITHMS, ALGORITHMS[0]),
        lifetime_s=section.take("lifetime_s", whole(30, MAX_LIFETIME_S), DEFAULT_LIFETIME_S),
        with_thumbprint=section.take("x5t_s256", flag, False),
        header=templates(section, "header"),
        claims=templates(section, "claims"),
    )
    if spec.authenticates_client == grant_takes_it:
        section.fault("as", f"must be {GRANT if grant_takes_it else CLIENT} for this grant")
    for table, names in SET_BY_SIGNER.items():
        for name in sorted(set(names) & set(spec.header if table == "header" else spec.claims)):
            section.fault(f"{table}.{name}", "is set by the broker")
    for name in NEEDED_CLAIMS:
        if name not in spec.claims:
            section.fault(f"claims.{name}", "is required (RFC 7523 section 3)")
    if PRIVATE_KEY not in credentials:
        section.fault("as", f"needs {PRIVATE_KEY} among the credentials")
    if spec.with_thumbprint != (CERTIFICATE in credentials):
        section.fault("x5t_s256", f"must be true where the credentials have {CERTIFICATE}, and only there")
    return spec
