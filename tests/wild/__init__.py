"""The broker against real authorization servers (`make wild`)."""
