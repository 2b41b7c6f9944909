"""Compares the broker with libraries and proxies, at the same simulated token endpoint, in one run.

`python -m tests.bench.peers` measures each of `peers.PEERS`, prints the table and writes build/peers.json: the token
requests of 200 cold callers, the requests and results while the provider fails, and the time for an existing token. The
callers run in their own processes: `worker`.
"""
