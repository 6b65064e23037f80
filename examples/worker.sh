#!/usr/bin/env bash
# A worker. It creates its group, with a policy, if there is none:
#     bash worker.sh http://127.0.0.1:8080/v1/streams/jobs/groups/mailers w1
#     curl http://127.0.0.1:8080/v1/streams/jobs/entries -d to=alice
# It takes one entry at a time and handles only texts without quotes. Use jq for anything else.
group=$1 consumer=$2

call() { curl --silent --show-error --fail-with-body --max-time 70 "$group/$1" "${@:2}"; }

member() { grep -oE "\"$1\":\"[^\"]*\"" <<<"$2" | head -n1 | cut -d'"' -f4; }

work() {
    local to
    to=$(member to "$1")
    [ -n "$to" ] && echo "mail to $to"
}

# A `lease` is refused for a group without a policy.
read=(-d count=1 -d wait=20s -d lease=30s -d create=true --data-urlencode 'policy={"max_deliveries":5}')
while true; do
    # Unacknowledged entries are delivered again when their leases end.
    if ! entry=$(call read -d "consumer=$consumer" "${read[@]}"); then
        echo "$entry" >&2
        grep -q '"retryable":false' <<<"$entry" && exit 1
        sleep 1
        continue
    fi
    receipt=$(member receipt "$entry")
    [ -n "$receipt" ] || continue
    if work "$entry"; then
        call ack -d "receipts=$receipt" >/dev/null
    else # the entry is delivered again, according to the policy of the group
        call nack -d "receipts=$receipt" -d "reason=nobody to mail to" >/dev/null
    fi
done
