"""Connection health: what is remembered of a connection's credentials. Changes are pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from token_broker.core.failures import Failure

NEW_VERSIONS_PERIOD = timedelta(hours=1)
TRIAL_SPACING = timedelta(minutes=5)
TRIALS_PERIOD = timedelta(minutes=15)
MAX_TRIALS = 5
HEALTH_KEEP = timedelta(days=30)
MAX_REFUSED_VERSIONS = 5


@dataclass(frozen=True, slots=True)
class ConnectionHealth:
    """What is remembered of a connection's credentials.

    `rate_limit`: the provider's last request to slow down. `failure`: the last failure of any other kind. Each has its
    own cooldown. `unresolved_logins`: logins with `login_version` of the secret that were sent and whose outcome is
    unknown. `new_versions`: the secret versions first used after a failure and when, newest last. `refused_versions`:
    the last secret versions that the provider refused since it last accepted one, newest last. `trials`: the secret
    versions of the last trials and when, newest last. `api_host`: the first API host that a response named under the
    settings of `api_host_digest`. `delete_at`: when the item may be deleted. `revision` names this state; None where
    nothing is stored.
    """

    failure: Failure | None = None
    rate_limit: Failure | None = None
    unresolved_logins: int = 0
    login_version: str | None = None
    new_versions: tuple[tuple[str, datetime], ...] = ()
    refused_versions: tuple[str, ...] = ()
    trials: tuple[tuple[str, datetime], ...] = ()
    api_host: str | None = None
    api_host_digest: str | None = None
    delete_at: datetime | None = None
    revision: str | None = None

    @property
    def failures(self) -> tuple[Failure, ...]:
        return tuple(failure for failure in (self.failure, self.rate_limit) if failure is not None)

    def failed(self, failure: Failure, *, replaced: Failure | None, reset_logins: bool) -> ConnectionHealth:
        """After a failure of the whole connection. `reset_logins`: the unresolved logins no longer
        count. Their outcome is known, or the cooldown of a refusal protects the account now.

        `replaced`: the stored failure that `failure` was derived from. A failure stored since then stays if its
        cooldown is longer.
        """
        refused_versions = self.refused_versions
        version = failure.secret_version
        if failure.is_against_credentials and version is not None and version not in refused_versions:
            refused_versions = (*refused_versions, version)[-MAX_REFUSED_VERSIONS:]
        stored = self.rate_limit if failure.rate_limited else self.failure
        if stored is not None and stored != replaced and stored.retry_at > failure.retry_at:
            failure = stored
        health = replace(self, refused_versions=refused_versions)
        health = replace(health, rate_limit=failure) if failure.rate_limited else replace(health, failure=failure)
        return replace(health, unresolved_logins=0) if reset_logins else health

    def succeeded(self, read_as: ConnectionHealth) -> ConnectionHealth:
        """After an issued token: the failures of `read_as` and the unresolved logins are over. Newer failures stay."""
        same_failure = self.failure == read_as.failure
        same_limit = self.rate_limit == read_as.rate_limit
        return replace(
            self,
            failure=None if same_failure else self.failure,
            rate_limit=None if same_limit else self.rate_limit,
            unresolved_logins=0,
            new_versions=() if same_failure else self.new_versions,
            refused_versions=() if same_failure else self.refused_versions,
        )

    def cooldowns_ended(self) -> ConnectionHealth:
        """After a successful trial of the current credentials."""
        return replace(self, failure=None, rate_limit=None, unresolved_logins=0, new_versions=(), refused_versions=())

    def consent_given(self) -> ConnectionHealth:
        """After a new consent."""
        given = self.failure is not None and self.failure.consent_required
        return replace(self, failure=None) if given else self

    def one_more_try_taken(self, known: Failure, until: datetime) -> ConnectionHealth | None:
        """Before the one more try after the refusal `known`: nobody else tries before `until`.

        None if somebody else was first. If the one who took it dies, another may take it then.
        """
        return replace(self, failure=replace(known, retry_at=until)) if self.failure == known else None

    def login_counted(self, version: str) -> ConnectionHealth:
        """Counts a login before it is sent. Logins with another version of the secret do not count."""
        count = self.unresolved_logins if self.login_version == version else 0
        return replace(self, unresolved_logins=count + 1, login_version=version)

    def login_settled(self) -> ConnectionHealth:
        """The outcome of one login is known."""
        return replace(self, unresolved_logins=max(self.unresolved_logins - 1, 0))

    def recent_versions(self, now: datetime) -> tuple[tuple[str, datetime], ...]:
        """The secret versions that were new within the last hour."""
        return tuple((version, at) for version, at in self.new_versions if now - at < NEW_VERSIONS_PERIOD)

    def version_noted(self, version: str, now: datetime) -> ConnectionHealth:
        """Remembers that a secret version was first used now."""
        return replace(self, new_versions=(*self.recent_versions(now), (version, now)))

    def api_host_seen(self, host: str, settings_digest: str, now: datetime) -> ConnectionHealth:
        """Remembers an API host, unless one is known under these settings. Keeps the item for as long as it is used."""
        if self.api_host_digest != settings_digest:
            return replace(self, api_host=host, api_host_digest=settings_digest)
        is_old = self.delete_at is not None and self.delete_at - now < HEALTH_KEEP / 2
        return replace(self, delete_at=None) if is_old else self

    def allows_api_host(self, host: str, settings_digest: str) -> bool:
        """Whether a response may name this API host: the known one, or any if none is known under these settings."""
        return self.api_host_digest != settings_digest or self.api_host == host

    def trial_begun(self, version: str, now: datetime, *, is_new: bool) -> ConnectionHealth:
        """Remembers a trial of a secret version. `is_new`: it is not current, so it counts among the new ones."""
        kept = tuple((tried, at) for tried, at in self.trials if now - at < TRIALS_PERIOD)
        health = replace(self, trials=(*kept, (version, now)))
        if is_new and version not in {known for known, _ in self.recent_versions(now)}:
            return health.version_noted(version, now)
        return health

    def with_delete_at(self, now: datetime) -> ConnectionHealth:
        """The same with `delete_at` as it follows: 30 days after the last change, longer than any cooldown.

        Unresolved logins must outlive the item of a token key, so that an account is not locked by forgetting them.
        """
        return replace(self, delete_at=now + HEALTH_KEEP)

    def next_trial_at(self, version: str, now: datetime) -> datetime | None:
        """When the next trial of a secret version is allowed; None: now.

        Five trials in 15 min, and the same version once in 5 min, because providers lock an account by count.
        """
        waits = [at + TRIAL_SPACING for tried, at in self.trials if tried == version]
        if len(self.trials) >= MAX_TRIALS:
            waits.append(self.trials[-MAX_TRIALS][1] + TRIALS_PERIOD)
        return max((until for until in waits if until > now), default=None)
