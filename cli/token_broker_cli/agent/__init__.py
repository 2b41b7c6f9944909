"""`token-broker agent`: tokens for the programs of one user on this machine, in any language, over plain HTTP.

It caches, renews, reports and retries as the client library does, because it is the client library behind a server.

    command.py    starts and stops it, and asks a running one for its health
    listeners.py  the Unix socket, or the port on 127.0.0.1 and the file with its password
    server.py     HTTP over these sockets: reads requests, writes responses, stops in order
    door.py       who may ask at all
    routes.py     what each route does, and for which connections
    responses.py  bodies and problem documents, each with a stable code
    metrics.py    what is counted, in Prometheus's text format
"""
