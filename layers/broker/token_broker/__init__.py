"""Token broker: valid access tokens of third-party APIs for internal services, from one HTTPS endpoint."""

__version__ = "0.1.0"
