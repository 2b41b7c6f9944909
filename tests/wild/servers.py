"""Real authorization servers as processes on loopback: Debian's Doorkeeper and npm's oidc-provider."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from local.process import LOGS, ROOT, StartFailed, end

HERE: Final = Path(__file__).parent
FETCHED: Final = ROOT / ".venv" / "wild"
START_LIMIT_S: Final = 60.0


@dataclass(frozen=True)
class RealServer:
    """A running server. `log` has a line `METHOD /path` for each request that it got."""

    name: str
    url: str
    log: Path

    def requests(self, line: str) -> int:
        """How often it got this request, for example `POST /token`."""
        return self.log.read_text(encoding="utf-8").splitlines().count(line)


@contextmanager
def doorkeeper(name: str, *, clients: Sequence[Mapping[str, Any]], reuse: bool) -> Iterator[RealServer]:
    """Doorkeeper. `reuse`: it gives a client its living token again, with the seconds left."""
    command = [str(FETCHED / "doorkeeper" / "ruby"), str(HERE / "doorkeeper" / "server.rb")]
    with _running(name, command, {"clients": clients, "reuse": reuse}) as server:
        yield server


@contextmanager
def oidc_provider(*, clients: Sequence[Mapping[str, Any]], resource: str) -> Iterator[RealServer]:
    """oidc-provider. Access tokens for `resource` are JWTs."""
    command = ["node", str(HERE / "oidc_provider" / "server.mjs")]
    with _running("oidc-provider", command, {"clients": clients, "resource": resource}) as server:
        yield server


@contextmanager
def _running(name: str, command: Sequence[str], options: Mapping[str, Any]) -> Iterator[RealServer]:
    log = LOGS / "wild" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, "OIDC_PROVIDER_HOME": str(FETCHED / "oidc_provider")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(options).encode() + b"\n")
        process.stdin.flush()
        listens, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
        port = process.stdout.readline().strip() if listens else b""
        if not port.isdigit():
            raise StartFailed(f"{name} did not start; see {log}")
        yield RealServer(name, f"http://127.0.0.1:{int(port)}", log)
    finally:
        end(process)
        process.stdout.close()
