"""Figures of speed: ratios, each measured in one run. `python -m tests.bench` prints and writes them."""
