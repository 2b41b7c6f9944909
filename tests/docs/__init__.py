"""Writes the generated pages of docs/, and tests that the documentation agrees with the code."""
