"""The local stack: the broker as AWS runs it, with simulated providers, on one machine and on loopback only."""
