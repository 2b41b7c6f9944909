"""The local stack: the whole broker on this machine, on loopback only, with simulated providers."""
