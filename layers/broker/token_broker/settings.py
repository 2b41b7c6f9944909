"""The deployment's settings, from the environment that template.yaml gives each function."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from token_broker import __version__

DIGEST_DIGITS = 12  # of CodeDigest, in the version
UNSET = "unset"  # the template's default of CodeDigest


@dataclass(frozen=True, slots=True)
class Settings:
    """Names of resources, and switches. A function's environment holds only what that function uses.
    `provider_files`: the folder of a platform team's provider files, or empty.

    `local` admits http and loopback addresses, `time_scale` shrinks all lifetimes, and `lease_scale` all leases and
    deadlines: the three exist for the local stack, and the template never sets them.
    """

    version: str
    connection_table: str
    token_table: str
    grant_table: str
    renewal_queue_url: str
    consent_queue_url: str
    sealing_key_arn: str
    grant_key_arn: str
    secret_prefix: str
    signing_key_prefix: str
    allow_private_networks: bool
    provider_files: str
    local: bool
    time_scale: float
    lease_scale: float

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Raises ValueError for a value that makes no sense."""
        local = environment.get("TOKEN_BROKER_LOCAL") == "1"
        return cls(
            version=_version(environment.get("CODE_DIGEST", UNSET)),
            connection_table=environment.get("CONNECTION_TABLE", ""),
            token_table=environment.get("TOKEN_TABLE", ""),
            grant_table=environment.get("GRANT_TABLE", ""),
            renewal_queue_url=environment.get("RENEWAL_QUEUE_URL", ""),
            consent_queue_url=environment.get("CONSENT_QUEUE_URL", ""),
            sealing_key_arn=environment.get("SEALING_KEY_ARN", ""),
            grant_key_arn=environment.get("GRANT_KEY_ARN", ""),
            secret_prefix=environment.get("SECRET_PREFIX", "token-broker"),
            signing_key_prefix=environment.get("SIGNING_KEY_PREFIX", "alias/token-broker"),
            allow_private_networks=environment.get("ALLOW_PRIVATE_NETWORKS") == "true",
            provider_files=environment.get("PROVIDER_FILES", ""),
            local=local,
            time_scale=_scale(environment, "TOKEN_BROKER_TIME_SCALE") if local else 1.0,
            lease_scale=_scale(environment, "TOKEN_BROKER_LEASE_SCALE") if local else 1.0,
        )


def _version(code_digest: str) -> str:
    """The release, and the first digits of the deployed digest: two builds of one release differ."""
    return __version__ if code_digest == UNSET else f"{__version__}+{code_digest[:DIGEST_DIGITS]}"


def _scale(environment: Mapping[str, str], name: str) -> float:
    """Raises ValueError for what is no scale."""
    scale = float(environment.get(name) or 1.0)
    if not (math.isfinite(scale) and 0 < scale <= 1):
        raise ValueError(f"{name} must be above 0 and at most 1")
    return scale
