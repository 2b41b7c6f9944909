"""A connection whose tokens begin with a person's consent, and its routes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.fakes.consent_vendor import SLUG, ConsentVendor, provider_files, served

from .functions import BrokerResponse
from .world import World

NAME: Final = f"{SLUG}/demo"
PATH: Final = f"/v1/connections/{NAME}/consent"
REDIRECT_URI: Final = "https://shop.example/consent"


class Consents:
    """The routes of one connection of the vendor."""

    def __init__(self, world: World, vendor: ConsentVendor, folder: Path) -> None:
        self.world = world
        self.vendor = vendor
        world.functions.restart(PROVIDER_FILES=str(provider_files(folder)))
        settings = {
            "allowed_callers": ["*"],
            "base_url": vendor.url,
            "redirect_uri": REDIRECT_URI,
            "scope": "orders",
        }
        assert world.api.put(NAME, settings).status == 201
        world.aws.create_secret(NAME, dict(zip(("client_id", "client_secret"), vendor.client, strict=True)))

    def call(self, method: str, path: str = "", **request: Any) -> BrokerResponse:
        return self.world.api.call(method, PATH + path, **request)

    def start(self, **body: Any) -> dict[str, Any]:
        response = self.call("POST", body=body or None)
        assert response.status == 201, response
        return dict(response.body)

    def finish(self, consent_id: str, redirect_url: str) -> BrokerResponse:
        return self.call("POST", f"/{consent_id}/finish", body={"redirect_url": redirect_url})

    def show(self, consent_id: str) -> dict[str, Any]:
        response = self.call("GET", f"/{consent_id}")
        assert response.status == 200, response
        return dict(response.body)

    def approved(self) -> str:
        """The id of a consent in quarantine."""
        started = self.start()
        consent_id: str = started["consent_id"]
        assert self.finish(consent_id, self.vendor.authorize(started["authorize_url"])).status == 202
        assert self.world.exchange_codes() == 1
        return consent_id


def callback(world: World, name: str, redirect_url: str) -> dict[str, Any]:
    """What receive_code returns to a browser that was redirected to the callback instead."""
    function, event = world.api.event(
        "GET", f"/v1/consent/callback/{name.partition('/')[0]}", redirect_url.partition("?")[2]
    )
    response: dict[str, Any] = world.functions.invoke(function, event)
    return response


@contextmanager
def consents_of(world: World) -> Iterator[Consents]:
    """A connection of a vendor on loopback, whose provider file is the platform team's own."""
    with tempfile.TemporaryDirectory() as folder, served(ConsentVendor()) as vendor:
        yield Consents(world, vendor, Path(folder))
