"""Keeps the consents of a simulated vendor, and the codes, devices and refresh tokens that come of them.

Every rule that differs between vendors is an option. Not thread-safe: the simulator holds its lock around each call.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from .options import Options
from .wire import Refusal

DAY_S = 86_400.0
NEVER_S = 3650 * DAY_S
# RFC 8628 section 3.5
SLOWER_S = 5
VERIFIER = re.compile("[A-Za-z0-9._~-]{43,128}")


@dataclass(frozen=True)
class ConsentOptions(Options):
    """The defaults of a vendor come from its provider's file and examples."""

    code_lifetime_s: float = 60
    refresh_lifetime_s: float = NEVER_S  # after the consent, however often it is used
    idle_lifetime_s: float = NEVER_S  # without use
    rotates: bool = True  # a renewal gives a new refresh token and uses the old one up ...
    overlap_s: float = 0  # ... which may be sent again for so long after its first use ...
    overlap_ends_with_use: bool = False  # ... or until the new one is used
    reuse_ends_consent: bool = True  # a used refresh token that is sent after that ends the whole consent (RFC 9700)
    replaces: bool = False  # a new consent ends the account's earlier ones
    revocation_ends_consent: bool = True  # so does the revocation of an access token
    denies: bool = False  # the person denies
    account: str = ""  # of the person who approves
    sends_iss: bool = False  # RFC 9207
    redirect_with: Mapping[str, object] = field(default_factory=dict)  # laid over the redirect's query; "" removes
    device_lifetime_s: float = 1800
    device_interval_s: float = 5
    approves_devices: bool = False  # at once, without anybody who enters the code


@dataclass(slots=True)
class Consent:
    """One consent: `person` is the account that gave it, `client` the account of the simulator that it was given to."""

    client: str
    person: str
    scope: str
    given_at: float
    family: str = field(default_factory=lambda: secrets.token_hex(8))
    ended: bool = False


@dataclass(slots=True)
class RefreshToken:
    """`used_at`: its first use. `successor`: the one that came of it. `sent`: how often it arrived."""

    value: str = field(repr=False)
    consent: Consent
    alive_since: float
    used_at: float | None = None
    successor: RefreshToken | None = None
    sent: int = 0


@dataclass(slots=True)
class Code:
    """An authorization code, with what it was issued for."""

    consent: Consent
    redirect_uri: str
    challenge: str | None
    expires_at: float
    used: bool = False


@dataclass(slots=True)
class Device:
    """A device that waits for a person. `approved` None: nobody has decided yet."""

    client: str
    user_code: str
    scope: str
    expires_at: float
    interval_s: float
    approved: bool | None
    polled_at: float | None = None


class ConsentLedger:
    """`end_tokens`: ends the access tokens of a family. `count`: counts a replay."""

    def __init__(self, *, end_tokens: Callable[[str], object], count: Callable[[str], object]) -> None:
        self._end_tokens = end_tokens
        self._count = count
        self._codes: dict[str, Code] = {}
        self._devices: dict[str, Device] = {}
        self.refresh_tokens: dict[str, RefreshToken] = {}
        self.consents: list[Consent] = []

    def knows(self, values: Iterable[str]) -> bool:
        """Whether one of them is a code, a device code or a refresh token of this vendor."""
        return any(value in known for value in values for known in (self._codes, self._devices, self.refresh_tokens))

    # ------------------------------------------------------------------ consents

    def begin(self, consent: Consent, options: ConsentOptions) -> RefreshToken:
        """The first refresh token of a consent."""
        if options.replaces:
            for earlier in self.consents:
                if (earlier.client, earlier.person) == (consent.client, consent.person):
                    self.end(earlier)
        self.consents.append(consent)
        return self._new_refresh_token(consent, consent.given_at)

    def end(self, consent: Consent) -> None:
        consent.ended = True
        self._end_tokens(consent.family)

    def of_family(self, family: str) -> Consent | None:
        return next((consent for consent in self.consents if consent.family == family), None)

    # ------------------------------------------------------------------ refresh tokens

    def renew(self, value: str, client: str, options: ConsentOptions, now: float) -> RefreshToken:
        """The refresh token that a client has from now on: the same, or a new one. Raises `Refusal`."""
        token = self.refresh_tokens.get(value)
        if token is None or token.consent.client != client:
            raise Refusal("invalid_grant", "the refresh token is unknown, or another client's")
        if token.consent.ended or self._has_expired(token, options, now):
            raise Refusal("invalid_grant", "the refresh token has expired or was revoked")
        if not self._may_be_used(token, options, now):
            self._count("replayed_refresh_tokens")
            if options.reuse_ends_consent:
                self.end(token.consent)
            raise Refusal("invalid_grant", "the refresh token was used before")
        token.used_at = now if token.used_at is None else token.used_at
        if not options.rotates:
            token.alive_since = now
            return token
        token.successor = self._new_refresh_token(token.consent, now)
        return token.successor

    def state_of(self, token: RefreshToken, options: ConsentOptions, now: float) -> str:
        """live, used, expired or ended."""
        if token.consent.ended:
            return "ended"
        if self._has_expired(token, options, now):
            return "expired"
        return "live" if token.successor is None else "used"

    def _may_be_used(self, token: RefreshToken, options: ConsentOptions, now: float) -> bool:
        """It was not used up, or its vendor lets it be sent again for a while."""
        if token.successor is None or token.used_at is None:
            return True
        if options.overlap_ends_with_use and token.successor.used_at is not None:
            return False
        return now < token.used_at + options.overlap_s

    def expires_at(self, token: RefreshToken, options: ConsentOptions) -> float:
        """When it expires unless it is used."""
        too_old_at = token.consent.given_at + options.refresh_lifetime_s
        return min(too_old_at, token.alive_since + options.idle_lifetime_s)

    def _has_expired(self, token: RefreshToken, options: ConsentOptions, now: float) -> bool:
        return now >= self.expires_at(token, options)

    def _new_refresh_token(self, consent: Consent, now: float) -> RefreshToken:
        token = RefreshToken(f"refresh-{secrets.token_urlsafe(24)}", consent, now)
        self.refresh_tokens[token.value] = token
        return token

    # ------------------------------------------------------------------ codes

    def new_code(self, code: Code) -> str:
        value = secrets.token_urlsafe(24)
        self._codes[value] = code
        return value

    def redeem(self, value: str, client: str, redirect_uri: str | None, verifier: str, now: float) -> Consent:
        """RFC 6749 section 4.1.3 and RFC 7636 section 4.6. Raises `Refusal`. A code used twice ends its consent.

        `redirect_uri` None: this vendor does not ask for it again.
        """
        code = self._codes.get(value)
        if code is None or code.consent.client != client or now >= code.expires_at:
            raise Refusal("invalid_grant", "the code is unknown or has expired")
        if code.used:
            self._count("replayed_codes")
            self.end(code.consent)
            raise Refusal("invalid_grant", "the code was used before")
        code.used = True
        if redirect_uri not in (None, code.redirect_uri):
            raise Refusal("invalid_grant", "redirect_uri differs")
        if code.challenge is not None and code.challenge != challenge_of(verifier):
            raise Refusal("invalid_grant", "code_verifier does not fit")
        code.consent.given_at = now
        return code.consent

    # ------------------------------------------------------------------ devices

    def new_device(self, device: Device) -> str:
        value = secrets.token_urlsafe(24)
        self._devices[value] = device
        return value

    def device_with(self, user_code: str) -> Device:
        """Raises KeyError."""
        found = next((device for device in self._devices.values() if device.user_code == user_code), None)
        if found is None:
            raise KeyError(user_code)
        return found

    def poll(self, value: str, client: str, person: str, now: float) -> Consent:
        """RFC 8628 sections 3.4 and 3.5. Raises `Refusal`."""
        device = self._devices.get(value)
        if device is None or device.client != client:
            raise Refusal("invalid_grant", "the device code is unknown, or another client's")
        is_early = device.polled_at is not None and now < device.polled_at + device.interval_s
        device.polled_at = now
        if now >= device.expires_at:
            raise Refusal("expired_token", "the device code has expired")
        if is_early:
            device.interval_s += SLOWER_S
            raise Refusal("slow_down", "polled too soon")
        if device.approved is None:
            raise Refusal("authorization_pending", "nobody has entered the code")
        del self._devices[value]
        if not device.approved:
            raise Refusal("access_denied", "the person denied")
        return Consent(client, person, device.scope, now)


def challenge_of(verifier: str) -> str:
    """RFC 7636 section 4.2, S256. Empty if the text is not a valid verifier."""
    if not VERIFIER.fullmatch(verifier):
        return ""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
