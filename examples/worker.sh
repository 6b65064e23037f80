#!/usr/bin/env bash
# A worker: bash worker.sh http://127.0.0.1:8080/v1/streams/jobs/groups/mailers w1
# One entry at a time, of texts without quotes: for anything else there is jq.
group=$1 consumer=$2

call() { curl --silent --show-error --fail-with-body --max-time 70 "$group/$1" "${@:2}"; }

member() { grep -oE "\"$1\":\"[^\"]*\"" <<<"$2" | head -n1 | cut -d'"' -f4; }

work() {
    local to
    to=$(member to "$1")
    [ -n "$to" ] && echo "mail to $to"
}

while true; do
    # What was not answered comes again when its lease ends.
    entry=$(call read -d "consumer=$consumer" -d count=1 -d wait=20s) || { echo "$entry" >&2; sleep 1; continue; }
    receipt=$(member receipt "$entry")
    [ -n "$receipt" ] || continue
    if work "$entry"; then
        call ack -d "receipts=$receipt" >/dev/null
    else # somebody else may try, as the policy of the group says
        call nack -d "receipts=$receipt" -d "reason=nobody to mail to" >/dev/null
    fi
done
