# shellcheck shell=bash
# What tpu_vm.sh and tpu_group.sh share: their options, and up, run, logs, status, watch and down.
#
# A script that sources this file sets `name` and `zone` to their defaults, and defines
#   option NAME VALUE    sets one of its further options; returns 1 for one that it does not have
#   create, delete       the nodes, and all that belongs to them
#   state                prints ACTIVE, GONE, SUSPENDED, FAILED, UNKNOWN, or another word while waiting
#   copy_to_all FILE     into the home directory of each node
#   on_first COMMAND     a line of shell, on the first node
#   on_all COMMAND       the same on each node
#   start_on_all WORD... starts a command on each node, with --hosts.* where there are several

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    echo "nodes.sh is a part of tpu_vm.sh and tpu_group.sh: see launch/tpu_vm.sh --help" >&2
    exit 2
fi
look_every=${TLC_LOOK_EVERY:-60} # seconds between two looks at the nodes
attempts=5                       # to start a command on the same nodes
unreachable_looks=10             # until nodes that do not answer are given up
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
on_node="bash tlc_jax/launch/on_node.sh"
script=${0##*/}
: "${name:?} ${zone:?}"
# shellcheck disable=SC2034 # the sourcing script reads `spot`
dry_run='' created='' spot=yes data='' given=''
exec 3>&1 # what a dry run prints, also from within $(...)

say() { echo "$script: $*" >&2; }
hint() { echo "'$(quoted "$0" "$1" --name "$name" --zone "$zone")'"; }
fail() {
    say "error: $*"
    exit 2
}
explain() { echo "# $*" >&3; } # in a dry run

# The arguments as one line that any shell reads as the same arguments.
quoted() {
    local word line=''
    for word; do
        case $word in
        '' | *[!A-Za-z0-9_./:=,@%+-]*)
            word=$(printf '%s.' "$word" | sed "s/'/'\\\\''/g")
            word="'${word%.}'"
            ;;
        esac
        line+="${line:+ }$word"
    done
    printf '%s\n' "$line"
}

execute() {
    if [[ $dry_run ]]; then quoted "$@" >&3; else "$@"; fi
}

# What a command of gcloud prints, as a state.
look() {
    local now
    if [[ $dry_run ]]; then
        execute "$@"
        now=${created:+ACTIVE}
    else
        now=$("$@") || now=UNKNOWN
    fi
    echo "${now:-GONE}"
}

# VERB [options] [--] COMMAND...
parse() {
    verb=${1---help}
    shift || true
    while (($#)); do
        case $1 in
        --) shift && break ;;
        --dry-run) dry_run=yes ;;
        --on-demand)
            # shellcheck disable=SC2034
            spot=''
            ;;
        -h | --help) verb=--help ;;
        --*=*) set_option "${1%%=*}" "${1#*=}" ;;
        --*)
            [[ ${2-} && $2 != --* ]] || fail "$1 needs a value, or does not exist: see $script --help"
            set_option "$1" "$2"
            shift
            ;;
        *) break ;;
        esac
        shift
    done
    command=("$@")
}

set_option() {
    local LC_ALL=C # elsewhere [a-z] may hold other letters
    [[ " $given " != *" $1 "* ]] || fail "$1 is given twice: give it once"
    given+=" $1"
    case $1 in
    --name)
        [[ $2 =~ ^[a-z]([-a-z0-9]{0,60}[a-z0-9])?$ ]] ||
            fail "--name $2 is not of small letters, digits and hyphens, with a letter first"
        name=$2
        ;;
    --zone)
        [[ ! $2 =~ ^[a-z]+-[a-z]+[0-9]+$ ]] || fail "--zone $2 is a region: give one of its zones, such as $2-a"
        [[ $2 =~ ^[a-z]+-[a-z]+[0-9]+-[a-z]$ ]] || fail "--zone $2 is not a zone, such as us-west4-a"
        zone=$2
        ;;
    --data)
        [[ $2 == gs://?*/?* ]] || fail "--data $2 is not gs://BUCKET/FOLDER"
        data=${2%/}
        case ${data##*/} in
        tlc_jax | configs | launch | *.toml | README.md | LICENSE | .*)
            fail "--data $2 would be copied over the code in ~/tlc_jax/${data##*/}: give the folder another name"
            ;;
        esac
        ;;
    *) option "$1" "$2" || fail "there is no option $1: see $script --help" ;;
    esac
}

main() {
    local code=0
    [[ $dry_run || $verb == *help ]] || command -v gcloud >/dev/null ||
        fail "gcloud is not on PATH: install the Google Cloud CLI (https://cloud.google.com/sdk/docs/install)"
    case $verb in
    up | logs | status | down)
        ((${#command[@]} == 0)) || fail "$verb takes no command: run and watch do"
        ;;
    esac
    case $verb in
    -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" ;;
    up)
        up || code=$?
        ((code != 4)) || say "error: nothing could be installed; $name costs money until $(hint down)"
        exit "$code"
        ;;
    logs | status | down) "$verb" ;;
    run | watch)
        ((${#command[@]})) || fail "give the command to $verb: $script $verb -- python -m tlc_jax.train ..."
        "$verb"
        ;;
    *) fail "there is no $verb: give up, run, logs, status, watch or down" ;;
    esac
}

# Creates the nodes if they are not there, waits for them, and installs this code. Returns 1 if there are none, 3
# if somebody deleted them meanwhile, 4 if they are there and nothing could be installed.
up() {
    local now before='' here=''
    while now=$(state) && [[ $now != ACTIVE ]]; do
        case $now in
        GONE)
            if [[ $here ]]; then
                say "error: somebody deleted $name"
                return 3
            fi
            create || return 1
            here=yes created=yes
            continue
            ;;
        SUSPENDED | FAILED)
            if [[ $here && $now == FAILED ]]; then
                say "error: $name could not be created; the Google Cloud console shows why, $(hint down) removes it"
                return 1
            fi
            say "$name is $now: it is deleted and created again"
            delete || true
            here=''
            ;;
        UNKNOWN)
            [[ $before ]] || return 1 # gcloud has said why
            ;;
        "$before") ;;
        *) say "$name is $now: waiting" ;;
        esac
        before=$now
        sleep "$look_every"
    done
    install || return 4
}

install() {
    local archive fetch='' code=0
    [[ ! $data ]] || fetch=" && gcloud storage rsync --recursive $(quoted "$data" "tlc_jax/${data##*/}")"
    if [[ ! $dry_run && $(job) == running ]]; then
        say "a command is running on $name: nothing is installed"
        return
    fi
    archive=$(mktemp "${TMPDIR:-/tmp}/tlc_jax.XXXXXX")
    {
        execute tar -czf "$archive" --exclude=__pycache__ -C "$root" pyproject.toml README.md LICENSE tlc_jax configs launch &&
            copy_when_reachable "$archive" &&
            on_all "mkdir -p tlc_jax && tar -xzf tlc_jax.tar.gz -C tlc_jax && $on_node install$fetch"
    } || code=$?
    rm -f "$archive"
    return "$code"
}

# Right after their creation nodes refuse connections.
copy_when_reachable() {
    local left=$attempts
    until copy_to_all "$1"; do
        ((--left > 0)) || return 1
        say "$name cannot be reached yet: the next attempt follows in $look_every s"
        sleep "$look_every"
    done
}

run() {
    local now
    now=$([[ $dry_run ]] || state)
    [[ $dry_run || $now == ACTIVE ]] || fail "$name is $now: give $(hint up) first"
    start_on_all "${command[@]}"
    [[ $dry_run ]] || say "$(hint logs) shows its output; $name costs money until $(hint down)"
}

logs() { on_first "$on_node log"; }

status() {
    local now
    now=$(state)
    [[ $now != UNKNOWN ]] || {
        say "error: the state of $name is not known: gcloud has said why"
        return 1
    }
    [[ $dry_run ]] || echo "$name in $zone is $now"
    [[ ! $dry_run && $now != ACTIVE ]] || on_all "$on_node state"
}

# The nodes go even if they cannot be reached, or if the command does not end.
down() {
    on_all "test ! -e tlc_job || $on_node stop" || say "the command on $name could not be stopped first"
    delete
}

# What the command does, over all nodes: running, done, interrupted, failed CODE, idle or unreachable.
job() {
    local lines word
    lines=$(on_all "$on_node state" 2>/dev/null) || lines+=$'\ntlc unreachable'
    for word in failed running unreachable interrupted idle 'done'; do
        [[ $lines == *"tlc $word"* ]] || continue
        lines=${lines#*"tlc $word"}
        echo "$word${lines%%$'\n'*}"
        return
    done
    echo unreachable
}

# Keeps the command running until it is done or fails, and deletes the nodes then.
watch() {
    local left=$attempts lost=0 now word='' code=0
    check_workdir
    trap 'say "$name is still there and costs money: watch it again, or give $(hint down)"; exit 75' INT TERM HUP
    [[ $dry_run || $(state) != ACTIVE ]] || word=$(job)
    [[ $word == running ]] || up || code=$?
    ((code == 0 || code == 4)) || exit "$code"
    if ((code)) || ! start_on_all "${command[@]}"; then
        [[ $(job) != running ]] || exit 2 # another command
        say "the command could not be started on $name: another attempt follows"
        start_again
    fi
    if [[ $dry_run ]]; then
        watch_explained
        return
    fi
    while sleep "$look_every"; do
        now=$(state)
        [[ $now != UNKNOWN ]] || continue
        [[ $now == ACTIVE ]] && word=$(job) || word=$now
        [[ $word == unreachable ]] && ((++lost)) || lost=0
        ((lost < unreachable_looks)) || word=UNREACHABLE
        case $word in
        running | unreachable) ;;
        done) finish 0 "the command is done" ;;
        failed*)
            sleep "$look_every" # perhaps because the nodes are being taken away
            [[ $(state) != ACTIVE ]] || finish "${word#failed }" "the command failed (exit code ${word#failed })"
            ;;
        interrupted | idle)
            ((left-- > 0)) || finish 1 "the command was interrupted $attempts times on the same nodes"
            say "the command was interrupted: it is started again"
            start_on_all "${command[@]}" || true # the next look shows why not
            ;;
        GONE)
            say "error: somebody deleted $name"
            exit 1
            ;;
        *)
            say "$name is $word: it is deleted and created again, and the command started again"
            delete || true
            start_again
            left=$attempts lost=0
            ;;
        esac
    done
}

# Creates the nodes until there are some, installs, and starts the command.
start_again() {
    local left=$attempts code
    while true; do
        code=0
        up || code=$?
        ((code != 3)) || exit 1
        ((code)) || ! start_on_all "${command[@]}" || return 0
        # nodes that cannot be created cost nothing
        ((code == 1 || --left > 0)) || finish 1 "the command could not be started on $name in $attempts attempts"
        say "$name is not ready: the next attempt follows in $look_every s"
        sleep "$look_every"
    done
}

finish() {
    say "$2; its output is in $name.log, and $name is deleted"
    on_first "cat tlc_job/log" >"$name.log" || say "its output could not be copied"
    down || say "error: $name could not be deleted and costs money: give $(hint down)"
    exit "$1"
}

watch_explained() {
    explain "every $look_every s:"
    state >/dev/null
    on_all "$on_node state"
    explain "if the nodes were taken away: this, and all of the above again"
    delete
    explain "at the end:"
    on_first "cat tlc_job/log"
    down
}

# Whatever is on the disk of a node is deleted with it. A word may be a line of shell with options in it.
check_workdir() {
    local line rest where=''
    line="${command[*]} "
    rest=$line
    while [[ $rest == *--workdir[=\ ]* ]]; do
        rest=${rest#*--workdir?}
        where=${rest%%[[:space:]]*}
        where=${where#[\"\']}
        [[ $where && $where != -* ]] || fail "--workdir has no value: give --workdir gs://BUCKET/FOLDER"
        [[ $where == gs://?* ]] ||
            fail "$where is on the nodes' disk and is deleted with it: give --workdir gs://BUCKET/FOLDER"
    done
    [[ $where || ! $line =~ (tlc|tlc_jax)[.\ ](train|study)\  ]] ||
        fail "the command has no --workdir: give --workdir gs://BUCKET/FOLDER, since the nodes' disk is deleted"
}
