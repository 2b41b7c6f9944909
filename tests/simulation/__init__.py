"""Simulates a day of many keys on virtual time: the broker's own code, simulated vendors, and limits to check."""
