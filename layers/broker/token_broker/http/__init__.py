"""The HTTP edge: API Gateway requests in, JSON and problem+json out."""
