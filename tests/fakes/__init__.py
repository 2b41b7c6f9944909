"""The broker's ports in memory: stores, secrets, sealer, queue, network and clock. Tests control each of them."""

from tests.fakes.clock import HandClock
from tests.fakes.connection_store import InMemoryConnectionStore
from tests.fakes.consent_sessions import FakeConsentQueue, InMemoryConsentSessionStore
from tests.fakes.consent_store import InMemoryConsentStore
from tests.fakes.faults import Faults
from tests.fakes.queue import FakeQueue
from tests.fakes.sealing import FakeSealer
from tests.fakes.secret_store import FakeSecretStore
from tests.fakes.senders import (
    Recorder,
    Reissuing,
    answering,
    calling_back,
    dying,
    failing_first,
    hanging,
    in_turn,
    issuing,
    recording,
    redirecting,
    refusing,
    slow,
    unreachable,
)
from tests.fakes.signing_keys import FakeSigningKeys
from tests.fakes.simulation import Simulation
from tests.fakes.token_store import (
    InMemoryBudgets,
    InMemoryDueIndex,
    InMemoryHealthStore,
    InMemoryTokenStore,
    InMemoryTokenTable,
)
from tests.fakes.world import CALLER, World, make_broker

__all__ = [
    "CALLER",
    "FakeConsentQueue",
    "FakeQueue",
    "FakeSealer",
    "FakeSecretStore",
    "FakeSigningKeys",
    "Faults",
    "HandClock",
    "InMemoryBudgets",
    "InMemoryConnectionStore",
    "InMemoryConsentSessionStore",
    "InMemoryConsentStore",
    "InMemoryDueIndex",
    "InMemoryHealthStore",
    "InMemoryTokenStore",
    "InMemoryTokenTable",
    "Recorder",
    "Reissuing",
    "Simulation",
    "World",
    "answering",
    "calling_back",
    "dying",
    "failing_first",
    "hanging",
    "in_turn",
    "issuing",
    "make_broker",
    "recording",
    "redirecting",
    "refusing",
    "slow",
    "unreachable",
]
