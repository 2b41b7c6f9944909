"""What all simulated vendors share: routes, client authentication, issue and revocation of tokens, counters.

A vendor is a subclass. Times are epoch seconds of the given clock. The durations among its options are multiplied by
the time scale at the start; those set later are not.
"""

from __future__ import annotations

import secrets
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from .accounts import Account, initial_accounts
from .client_authentication import presented
from .faults import Fault, FaultQueue, Waits
from .journal import Entry, Journal
from .options import Options, changed, scaled
from .token_ledger import IssuedToken, TokenDraft, TokenLedger
from .wire import Refusal, Reply, Request, fields_of, json_reply

METHODS = {"token": ("POST",), "connect": ("GET",), "revoke": ("POST",), "resource": ("GET",)}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A counted request, with the fault to play for it, if any."""

    operation: str
    fault: Fault | None
    entry: Entry


class Simulator(ABC):
    """One simulated vendor. Thread-safe: it has one lock, which is never held while a fault waits."""

    slug: str
    routes: ClassVar[Mapping[str, str]] = {}
    methods: ClassVar[Mapping[str, tuple[str, ...]]] = METHODS
    client_auth: ClassVar[tuple[str, ...]] = ("basic-raw",)
    charset: ClassVar[str] = "utf-8"
    defaults: Options = Options()

    def __init__(self, *, time_scale: float, now: Callable[[], float]) -> None:
        self.now = now
        self.waits = Waits()
        self._lock = threading.RLock()
        self._time_scale = time_scale
        self._reset()

    def _reset(self) -> None:
        self.options = scaled(self.defaults, self._time_scale)
        self.accounts = self.first_accounts()
        self.tokens = TokenLedger()
        self.journal = Journal()
        self.faults = FaultQueue()
        self._recent_calls: deque[float] = deque()

    # Called by the server

    def arrive(self, request: Request) -> Arrival:
        """Counts the request and takes the fault to play for it."""
        operation = self.operation_at(request.path)
        with self._lock:
            entry = self.journal.arrived(request.method, request.path, operation)
            fault = self.faults.take(operation)
            if fault is not None:
                entry.outcome = f"fault: {fault.kind}"
            return Arrival(operation, fault, entry)

    def answer(self, request: Request, arrival: Arrival) -> Reply:
        """Carries the request out as the vendor does."""
        with self._lock:
            try:
                reply = self._dispatch(request, arrival.operation)
            except Refusal as refusal:
                self.journal.count("resource_refused" if arrival.operation == "resource" else "refused")
                reply = self.resource_refused() if arrival.operation == "resource" else self.refused(refusal)
            fault = f" (fault: {arrival.fault.kind})" if arrival.fault else ""
            arrival.entry.outcome = reply.outcome + fault
            return reply

    def vendor_time(self) -> float:
        """The time by the vendor's clock."""
        return self.now() + self.options.clock_skew_s

    def _dispatch(self, request: Request, operation: str) -> Reply:
        if operation == "unknown":
            return json_reply(404, {"error": "not_found"}, outcome="no such path")
        if request.method not in self.methods[operation]:
            allow = {"Allow": ", ".join(self.methods[operation])}
            return json_reply(405, {"error": "method_not_allowed"}, outcome="wrong method", headers=allow)
        if operation == "token" and self._over_the_limit():
            self.journal.count("rate_limited")
            return self.rate_limited()
        return self.handlers()[operation](request)

    def _over_the_limit(self) -> bool:
        """Whether `rate_limit` calls were admitted in the sliding window before now. If not, admits this one."""
        if self.options.rate_limit is None:
            return False
        now = self.now()
        while self._recent_calls and self._recent_calls[0] <= now - self.options.rate_window_s:
            self._recent_calls.popleft()
        if len(self._recent_calls) >= self.options.rate_limit:
            return True
        self._recent_calls.append(now)
        return False

    # Defined by a vendor

    def first_accounts(self) -> dict[str, Account]:
        """The accounts after a start or a reset, by name."""
        return initial_accounts(self.slug)

    def operation_at(self, path: str) -> str:
        """What a request to this path is for."""
        return self.routes.get(path, "unknown")

    @abstractmethod
    def token(self, request: Request) -> Reply:
        """The token endpoint. Raises `Refusal`."""

    def handlers(self) -> dict[str, Callable[[Request], Reply]]:
        """The method that carries out each operation of `routes`."""
        return {"token": self.token, "revoke": self.revoke, "resource": self.resource}

    def mint(self, _draft: TokenDraft) -> str:
        """A new token: opaque, unless the vendor's tokens have a form of their own."""
        return secrets.token_urlsafe(32)

    def refused(self, refusal: Refusal) -> Reply:
        """An error in the vendor's form; by default that of RFC 6749 section 5.2."""
        document = {"error": refusal.code, "error_description": refusal.description}
        return self.error_reply(refusal, document)

    def resource_refused(self) -> Reply:
        challenge = {"WWW-Authenticate": 'Bearer realm="api", error="invalid_token"'}
        return json_reply(401, {"error": "invalid_token"}, outcome="no live token", headers=challenge)

    def rate_limited(self) -> Reply:
        return json_reply(429, {"error": "too_many_requests"}, outcome="rate limited")

    def presented_token(self, request: Request) -> str:
        """The token of an API call, sent in the vendor's way; '' if there is none."""
        scheme, _, token = (request.header("Authorization") or "").partition(" ")
        return token if scheme.lower() == "bearer" else ""

    # Used by vendors

    def error_reply(self, refusal: Refusal, document: object) -> Reply:
        """The JSON error, with the challenge that RFC 6749 section 5.2 demands for 401."""
        status = self.options.error_status or refusal.status
        challenge = {"WWW-Authenticate": f'Basic realm="{self.slug}"'} if status == 401 else {}
        return json_reply(status, document, outcome=refusal.code, headers=challenge)

    def token_fields(
        self, request: Request, encodings: tuple[str, ...], *, wanted: Collection[str] = ()
    ) -> dict[str, str]:
        """The token request's fields. Refuses an empty scope, and a resource (RFC 8707) that is not `wanted`."""
        sent = fields_of(request, encodings)
        if sent.get("scope") == "":
            raise Refusal("invalid_scope", "the scope is empty")
        if "resource" in sent and "resource" not in wanted:
            raise Refusal("invalid_target", "no resource is expected")
        return sent

    def require_grant_type(self, sent: Mapping[str, str], *known: str) -> str:
        grant_type = sent.get("grant_type")
        if not grant_type:
            raise Refusal("invalid_request", "grant_type is missing")
        if grant_type not in known:
            raise Refusal("unsupported_grant_type", "the grant type is not supported")
        return grant_type

    def require_known_scopes(self, scope: str, known: tuple[str, ...]) -> None:
        if not set(scope.split(" ")) <= set(known):
            raise Refusal("invalid_scope", "the scope is invalid, unknown, or malformed")

    def accepted_client_auth(self) -> tuple[str, ...]:
        return self.client_auth

    def authenticate(self, request: Request, sent: Mapping[str, str]) -> Account:
        """The account whose credentials the request carries. Raises `Refusal`: invalid_client, invalid_request."""
        accepted = self.accepted_client_auth()
        for reading in presented(request, sent, accepted, charset=self.charset):
            for account in self.accounts.values():
                secret = account.secret.get("client_secret")
                excused = reading.method == "none" and "none" in accepted
                if account.secret.get("client_id") == reading.client_id and (
                    excused or secret == reading.client_secret
                ):
                    return account
        raise Refusal("invalid_client", "client authentication failed")

    def issue(
        self, account: Account, scope: str = "", *, lifetime_s: float | None = None, family: str = ""
    ) -> IssuedToken:
        """A token for the account: a new one, or the live one if the vendor reuses tokens."""
        now = self.now()
        options = self.options
        current = self.tokens.latest(account.name, scope, now)
        if options.reuse and current and current.expires_at - now > options.reissue_window_s:
            self.journal.count("reissued")
            current.reissued = True
            return current
        if options.revoke_previous:
            self.tokens.revoke(lambda token: token.account == account.name)
        expires_at = now + (options.lifetime_s if lifetime_s is None else lifetime_s)
        skew_s = options.clock_skew_s
        draft = TokenDraft(account, scope, issued_at=now + skew_s, expires_at=expires_at + skew_s)
        token = IssuedToken(self.mint(draft), account.name, scope, now, expires_at, family)
        self.tokens.add(token)
        self.journal.count("issued")
        return token

    def remaining_s(self, token: IssuedToken) -> int:
        """The value of `expires_in`: the whole seconds until the token expires, at least 1."""
        return max(1, int(token.expires_at - self.now()))

    def token_reply(self, token: IssuedToken, document: Mapping[str, object]) -> Reply:
        """The token reply, changed as the options say."""
        body: dict[str, object] = {**document, **self.options.set_fields}
        for name in self.options.omit_fields:
            body.pop(name, None)
        if self.options.numbers_as_text:
            body = {name: str(value) if isinstance(value, int | float) else value for name, value in body.items()}
        return json_reply(200, body, outcome="reissued" if token.reissued else "issued")

    def revoke(self, request: Request) -> Reply:
        """RFC 7009: 200 for the client's own tokens and for unknown ones. Another client's token is not revoked."""
        sent = fields_of(request, ("form", "json"))
        account = self.authenticate(request, sent)
        if not sent.get("token"):
            raise Refusal("invalid_request", "token is missing")
        known = self.tokens.find(sent["token"])
        if known and known.account != account.name:
            raise Refusal("unauthorized_client", "the token belongs to another client", status=403)
        revoked = self.tokens.revoke(lambda token: token is known)
        return json_reply(200, {}, outcome="revoked" if revoked else "nothing to revoke")

    def resource(self, request: Request) -> Reply:
        """The protected resource. For a live token, sent in the vendor's way, it says whose it is. Raises `Refusal`."""
        token = self.tokens.find(self.presented_token(request))
        if token is None or not token.live(self.now()):
            raise Refusal("invalid_token", "no live token")
        document = {"provider": self.slug, "account": token.account, "scope": token.scope, "token_id": token.token_id}
        return json_reply(200, document, outcome="live token")

    # Called by the control route and by tests in the same process

    def report(self) -> dict[str, Any]:
        """Counters, the last requests, live tokens by fingerprint, pending faults and options. No secret."""
        with self._lock:
            live = [
                {
                    "token_id": token.token_id,
                    "account": token.account,
                    "scope": token.scope,
                    "expires_at": datetime.fromtimestamp(token.expires_at, UTC).isoformat().replace("+00:00", "Z"),
                }
                for token in self.tokens.live(self.now())
            ]
            return {
                "provider": self.slug,
                **self.journal.report(),
                "live_tokens": live,
                "faults": self.faults.pending(),
                "locked_accounts": [account.name for account in self.accounts.values() if account.locked],
                "options": asdict(self.options),
            }

    def fail(self, kind: str, **details: Any) -> None:
        """Queues a fault. `details`: the fields of `Fault`. Raises ValueError or TypeError for unknown ones."""
        self.add_fault(Fault(kind, **details))

    def add_fault(self, fault: Fault) -> None:
        with self._lock:
            self.faults.add(fault)

    def clear_faults(self) -> None:
        """Drops pending faults. Requests that a fault holds continue."""
        with self._lock:
            self.faults.clear()
        self.waits.release()

    def configure(self, **options: Any) -> None:
        """Changes options from now on. Raises ValueError for an unknown option or a value of a wrong type."""
        with self._lock:
            self.options = changed(self.options, options)

    def revoke_tokens(self, token_id: str | None = None) -> int:
        """Revokes the live token with this fingerprint, or all, as a vendor may do at any time."""
        with self._lock:
            return self.tokens.revoke(lambda token: token_id in (None, token.token_id))

    def add_account(self, document: Mapping[str, Any]) -> None:
        """Adds an account, or replaces the one of that name. Raises ValueError."""
        account = Account.from_document(document)
        with self._lock:
            self.accounts[account.name] = account

    def rotate_secret(self, changes: Mapping[str, str], *, account: str = "demo") -> None:
        """Changes credentials. The old ones are refused from now on, tokens stay live, a lock ends. Raises KeyError."""
        with self._lock:
            known = self.accounts[account]
            known.secret = {**known.secret, **changes}
            known.failed_logins = 0
            known.locked = False

    def reset(self) -> None:
        """Forgets everything since the start: tokens, counters, options, accounts, faults, held requests."""
        self.waits.drop()
        with self._lock:
            self._reset()
