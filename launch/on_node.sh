#!/usr/bin/env bash
# Runs on a node, in its home directory. tpu_vm.sh and tpu_group.sh call it through ssh.
#
#   on_node.sh install           unpack tlc_jax.tar.gz, make an environment with the TPU's jax
#   on_node.sh start COMMAND...  start a command that outlives the connection, unless one is running
#   on_node.sh state             one line: tlc running | done | interrupted | failed CODE | idle
#   on_node.sh log               the last lines of its output, and those that follow
#   on_node.sh stop              ask it to save and end, and wait for it (at most five minutes)
set -euo pipefail

code_dir=$HOME/tlc_jax
job=$HOME/tlc_job # command, log, exit code; `lock` is held while the command runs
mkdir -p "$code_dir" "$job"
exec 9>>"$job/lock"

install() {
    tar -xzf "$HOME/tlc_jax.tar.gz" -C "$code_dir"
    export PATH="$HOME/.local/bin:$PATH"
    command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
    # the image's own Python is 3.10
    [[ -d $code_dir/.venv ]] || uv venv --quiet --python 3.12 "$code_dir/.venv"
    uv pip install --quiet --python "$code_dir/.venv" -e "${code_dir}[tpu,gcs]"
}

start() {
    local command
    command=$(printf '%q ' "$@")
    if ! flock --nonblock 9; then
        [[ $command == "$(cat "$job/command")" ]] && echo "tlc: this command is running already" && return
        echo "tlc: error: another command is running: $(cat "$job/command")" >&2
        return 2
    fi
    rm -f "$job/exit" "$job/pid"
    echo "$command" >"$job/command"
    cd "$code_dir"
    export PATH="$code_dir/.venv/bin:$PATH"
    # SIGTERM is for the command, which saves; the shell around it has to live until it can note the exit code
    # shellcheck disable=SC2016
    setsid nohup bash -c 'trap : TERM; echo $$ >"$0/pid"; "$@"; echo $? >"$0/exit"' \
        "$job" "$@" >>"$job/log" 2>&1 </dev/null &
    until [[ -s $job/pid ]] || ! kill -0 $! 2>/dev/null; do sleep 0.05; done # its group has to exist before `stop`
    echo "tlc: started"
}

state() {
    local code
    if ! flock --nonblock 9; then
        echo "tlc running"
    elif [[ ! -e $job/command ]]; then
        echo "tlc idle"
    else
        code=$(cat "$job/exit" 2>/dev/null || echo 137) # without a code it was killed, or the node restarted
        case $code in
        0) echo "tlc done" ;;
        75 | 134 | 137) echo "tlc interrupted" ;; # 134: jax ends processes whose process 0 is gone
        *) echo "tlc failed $code" ;;
        esac
    fi
}

stop() {
    flock --nonblock 9 && return # nothing is running
    kill -TERM -- "-$(cat "$job/pid")"
    flock --wait 300 9 || echo "tlc: error: the command did not end within five minutes" >&2
}

case ${1-} in
install | state | stop) "$1" ;;
start) start "${@:2}" ;;
log) exec tail -n 100 -F "$job/log" ;;
*)
    sed -n '/^# /s/^# *//p; /^set/q' "$0" >&2
    exit 2
    ;;
esac
