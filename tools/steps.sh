# For scripts that do long things in front of a person: sourced, not run.
# A step says what it does, shows that it is alive, and on failure which log to
# read. Output goes to stderr, so that a script's own stdout stays clean.

steps_terminal=no
if [ -t 2 ]; then steps_terminal=yes; fi

say() { printf '%s\n' "$*" >&2; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# step TEXT LOG COMMAND...   Runs COMMAND with its output in LOG.
step() {
    local text=$1 log=$2 began=$SECONDS told=0 last=''
    shift 2
    "$@" >"$log" 2>&1 </dev/null &
    local pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        if [ $steps_terminal = yes ]; then
            last=$(tail -n 1 "$log" 2>/dev/null | tr -d '\r' | cut -c 1-48)
            printf '\r\033[K%s ... %ss  %s' "$text" $((SECONDS - began)) "$last" >&2
        elif [ $((SECONDS - began - told)) -ge 5 ]; then
            told=$((SECONDS - began))
            say "$text ... ${told}s"
        fi
    done
    if [ $steps_terminal = yes ]; then printf '\r\033[K' >&2; fi
    if wait "$pid"; then
        say "$text: done in $((SECONDS - began)) s"
        return 0
    fi
    say "$text: failed. The end of $log:"
    tail -n 20 "$log" >&2
    return 1
}
