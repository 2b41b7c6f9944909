"""The command line `token-broker`, for people who operate the broker.

It uses the broker's HTTP interface, and boto3 for Secrets Manager, CloudFormation and what `doctor` checks. Secrets and
leaked tokens are read from a hidden prompt or from standard input, never from the command line. Only `providers check`
runs the broker's own code (package token_broker), without a broker.
"""

__version__ = "0.1.0"

__version__ = "0.1.0"
