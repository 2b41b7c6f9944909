"""The built functions on Lambda's own runtime: Runtime Interface Emulator and awslambdaric, without Docker."""
