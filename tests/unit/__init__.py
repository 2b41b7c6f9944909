"""Tests of the pure core: tables, sentences, properties. Nothing here waits, dials or reads but the catalogue."""
