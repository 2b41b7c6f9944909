#!/bin/sh
# A shell script that uses the agent, like service.py but every 0.5 s: sh service.sh PROVIDER CONNECTION URL SECONDS
end=$(($(date +%s) + $4))
while [ "$(date +%s)" -lt "$end" ]; do
    started=$(date +%s)
    if said=$(sh "$(dirname "$0")/../../cli/agent/call-api.sh" "$1/$2" "$3" 2>&1); then said=200; fi
    echo "$(($(date +%s) - started)) $said"
    sleep 0.5
done
