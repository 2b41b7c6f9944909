"""The built functions on Lambda's own runtime: the Runtime Interface Emulator and awslambdaric, without Docker."""
