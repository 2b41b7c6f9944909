"""A day of many keys on virtual time: the broker's own code, simulated vendors, and the lines that it must hold."""
