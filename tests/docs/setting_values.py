"""What may be written as the value of each setting, in words. The limits are the code's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Final

from tests.docs.tables import codes
from token_broker.core.connections import KEEP_WARM, MAX_CA_BUNDLE, MAX_PARAMS
from token_broker.core.names import MAX_SCOPE_CHARACTERS, MAX_SCOPE_ITEMS
from token_broker.core.providers import CLIENT_AUTHS, MAX_LIFETIME_S, SettingSpec
from token_broker.core.validation import MAX_TEXT, texts

MAX_ENTRIES: Final[int] = inspect.signature(texts).parameters["limit"].default

URL: Final = "a [URL](connections.md#urls)"
FLAG: Final = "`true` or `false`"
CALLERS: Final = f"a list of at most {MAX_ENTRIES} [callers](connections.md#callers)"
TEXT: Final = f"a string of at most {MAX_TEXT:,} characters, without control characters"

COMMON: Final[Mapping[str, str]] = {
    "allowed_callers": CALLERS,
    "denied_callers": CALLERS,
    "scope": f"[scope items](connections.md#scopes), separated by single spaces; at most {MAX_SCOPE_ITEMS} items and "
    f"{MAX_SCOPE_CHARACTERS:,} characters",
    "allowed_scopes": f'a list of at most {MAX_ENTRIES} scope items, or `["*"]`',
    "lifetime_s": f"a whole number from 1 to {MAX_LIFETIME_S:,} ({MAX_LIFETIME_S // 86_400} days)",
    "keep_warm": codes(KEEP_WARM),
    "suspended": FLAG,
    "credentials_expire_at": "a moment with its time zone (ISO 8601)",
    "api_base_url": URL,
    "client_auth": codes(CLIENT_AUTHS),
    "client_id_in_body": FLAG,
    "token_type": TEXT,
    "zero_means_never": FLAG,
    "issue_revokes_previous": FLAG,
    "private_network": FLAG,
    "ca_bundle": f"certificates in PEM form and printable ASCII, at most {MAX_CA_BUNDLE // 1024} KiB",
}

KINDS: Final[Mapping[str, str]] = {
    "url": URL,
    "base_url": f"{URL}; a slash at its end is dropped",
    "redirect_uri": "an absolute URI without fragment, of any scheme",
    "text": TEXT,
    "params": f"an object of at most {MAX_PARAMS} [parameters](connections.md#parameters)",
}


def value_of(spec: SettingSpec) -> str:
    """What may be written as a setting that one provider adds."""
    return codes(spec.choices) if spec.kind == "choice" else KINDS[spec.kind]
