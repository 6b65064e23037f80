#!/usr/bin/env bash
# A worker: bash worker.sh http://127.0.0.1:8080/v1/streams/jobs/groups/mailers w1
# It takes one entry at a time and handles only texts without quotes. Use jq for anything else.
group=$1 consumer=$2

call() { curl --silent --show-error --fail-with-body --max-time 70 "$group/$1" "${@:2}"; }

member() { grep -oE "\"$1\":\"[^\"]*\"" <<<"$2" | head -n1 | cut -d'"' -f4; }

work() {
    local to
    to=$(member to "$1")
    [ -n "$to" ] && echo "mail to $to"
}

while true; do
    # Unacknowledged entries are delivered again when their leases end.
    entry=$(call read -d "consumer=$consumer" -d count=1 -d wait=20s) || { echo "$entry" >&2; sleep 1; continue; }
    receipt=$(member receipt "$entry")
    [ -n "$receipt" ] || continue
    if work "$entry"; then
        call ack -d "receipts=$receipt" >/dev/null
    else # the entry is delivered again, according to the policy of the group
        call nack -d "receipts=$receipt" -d "reason=nobody to mail to" >/dev/null
    fi
done
