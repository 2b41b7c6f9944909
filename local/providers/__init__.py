"""The simulated providers: five vendors and a standard OAuth 2.0 server, over HTTP on loopback.

    with start_providers() as providers:
        providers.url                                  # http://127.0.0.1:<port>; a vendor is at /<slug>
        providers.simulator("unidy").fail("status", status=503, times=2)

Each checks what its vendor checks, and fails on command: see `Simulator` (in process) and POST /_control/<slug>.
"""

from .accounts import DEFAULT_ACCOUNTS, PUBLIC_CLIENT_ACCOUNT, SALES_CHANNEL_ACCOUNT, default_settings
from .server import ProvidersServer, start_providers

__all__ = [
    "DEFAULT_ACCOUNTS",
    "PUBLIC_CLIENT_ACCOUNT",
    "SALES_CHANNEL_ACCOUNT",
    "ProvidersServer",
    "default_settings",
    "start_providers",
]
