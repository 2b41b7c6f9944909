"""Tests in four layers, and the local stack that they and `make run` share."""
