"""The console: a local web page over the broker, for `token-broker console` and `make run`.

    server      the HTTP server on 127.0.0.1
    door        who may come in: single-use links, sessions, Host, Origin, CSRF tokens
    site        routes, errors, and the headers of every response
    pages       templates to HTML; every text is made visible and escaped
    overview, connection_pages, add_pages, audit_pages     the pages
    actions     what can be done to a connection, and the permission that each needs

It signs with the operator's AWS credentials, and calls the functions that the commands call.
"""
