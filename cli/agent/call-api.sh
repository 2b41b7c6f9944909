#!/bin/sh
# Calls a provider's API with a token of the agent. If the API rejects the token, reports it and calls again, at most twice:
# the provider may have revoked the next one, too, if the broker had it already.
#   TOKEN_BROKER_SOCKET=/run/user/1000/token-broker.sock sh call-api.sh unidy/eu-main https://id.example.com/api/users
# Prints the response's body. The exit code is 0 if the status is 2xx. No token is on a command line or in a file.
set -eu
connection=$1 url=$2
agent() { curl --silent --show-error --unix-socket "$TOKEN_BROKER_SOCKET" "$@"; }

headers=$(agent --fail-with-body "http://localhost/v1/headers/$connection") || { echo "$headers" >&2; exit 1; }
call() { printf '%s\n' "$headers" | curl --silent --show-error --header @- --write-out '\n%{http_code}' "$url"; }

response=$(call)
for replay in 1 2; do
    [ "${response##*
}" = 401 ] || break
    # The token is the last word of its header.
    printf '{"token": "%s"}' "${headers##* }" |
        agent --fail --output /dev/null --data @- "http://localhost/v1/tokens/$connection/rejected" || break
    headers=$(agent --fail "http://localhost/v1/headers/$connection")
    response=$(call)
done
status=${response##*
}
printf '%s\n' "${response%
*}"
case $status in 2??) ;; *) echo "HTTP status $status" >&2; exit 1 ;; esac
