#!/usr/bin/env bash
# Read a streamed answer with curl, over as many connections as it takes: prints every event once.
#
# Needs a proxy whose route has resume.mode, as in resume.toml. Run it as
#
#     examples/resume_curl.sh http://127.0.0.1:8787 "Good morning?"
#
# To see it reconnect without a network that fails: CURL_OPTIONS="--max-time 1"

set -u
base=${1:-http://127.0.0.1:8787}
question=${2:-Good morning?}
read -ra options <<<"${CURL_OPTIONS:-}"
head=$(mktemp)
trap 'rm -f "$head"' EXIT

last='' # the id of the last event that came whole

# Runs curl, prints events as they are complete, and returns curl's exit status. What was cut in the middle is not printed: it comes again.
events() {
    local event='' id='' line
    exec 3< <(exec curl -sSN --fail-with-body -D "$head" -H 'Authorization: Bearer sk-1' "${options[@]}" "$@")
    while IFS= read -r -u 3 line; do
        event+=$line$'\n'
        case $line in
        id:*) id=${line#id:} id=${id# } ;;
        '')
            printf '%s' "$event"
            [[ -z $id ]] || last=$id
            event='' id=''
            ;;
        esac
    done
    wait $!
}

question=${question//\\/\\\\} # as JSON has it
body=$(printf '{"model":"demo","stream":true,"messages":[{"role":"user","content":"%s"}]}' "${question//\"/\\\"}")
events "$base/v1/chat/completions" -H 'Content-Type: application/json' -H 'X-Txsse-Resume: 1' -d "$body"
status=$?
location=$(sed -n 's/^location: *\([^\r]*\).*/\1/Ip' "$head")

# 22: refused. Whatever else it is, the connection broke; a 204, which says that there is nothing left, is a success.
while ((status != 0 && status != 22)) && [[ -n $location ]]; do
    echo "curl's exit status is $status: going on after event ${last:-0}" >&2
    sleep 0.5
    events "$base$location" -H "Last-Event-ID: ${last:-0}"
    status=$?
done
exit "$status"
