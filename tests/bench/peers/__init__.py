"""Beside what people use: libraries and proxies at the broker's own simulated token endpoint, in one run.

`python -m tests.bench.peers` measures each of `peers.PEERS`, prints the table and writes build/peers.json. How many
token requests 200 cold callers cause, what a caller gets and the provider bears when the provider fails, and what a
token costs that is there already. The callers run in processes of their own: `worker`.
"""
