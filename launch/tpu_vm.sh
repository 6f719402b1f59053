#!/usr/bin/env bash
# TPU v2 to v5e through the Cloud TPU API: one TPU VM, or all hosts of a pod.
#
#   launch/tpu_vm.sh up                     create it, wait for it, install this code (again)
#   launch/tpu_vm.sh run -- COMMAND...      start a command that outlives the connection
#   launch/tpu_vm.sh logs                   show its output
#   launch/tpu_vm.sh status                 show what the TPU and the command are doing
#   launch/tpu_vm.sh watch -- COMMAND...    up and run; when the TPU is taken away, create it again, install and
#                                           run again; at the end save the output in NAME.log and delete the TPU
#   launch/tpu_vm.sh down                   ask the command to save and end, and delete the TPU
#
# Options, before the --:
#   --name NAME      of the TPU (tlc)
#   --zone ZONE      (us-west4-a)
#   --type TYPE      v2-8, v3-8, v4-8, v5litepod-8, or more cores or chips for a pod (v5litepod-8)
#   --data gs://BUCKET/FOLDER    is copied to the TPU, as FOLDER in the folder where the command runs
#   --on-demand      at the full price; without it a spot TPU, which may be taken away
#   --dry-run        print the commands and execute none
#
# On a pod the command gets --hosts.coordinator auto. The project is that of `gcloud config set project`.
set -euo pipefail

name=tlc zone=us-west4-a type=v5litepod-8
# shellcheck source=launch/nodes.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/nodes.sh" # also where a link is called

option() {
    case $1 in
    --type) type=$2 ;;
    *) return 1 ;;
    esac
}

runtime() {
    local sizes
    case $type in
    v2-*) sizes='8 32 128 256 512' ;;
    v3-*) sizes='8 32 64 128 256 512 1024 2048' ;;
    v4-*) sizes='8 16 32 64 128 256 512 1024 2048 4096' ;;
    v5litepod-*) sizes='1 4 8 16 32 64 128 256' ;;
    *) fail "--type $type is not a TPU v2 to v5e: launch/tpu_group.sh starts later ones" ;;
    esac
    [[ " $sizes " == *" ${type#*-} "* ]] || fail "--type $type does not exist: ${type%%-*} has the sizes $sizes"
    [[ $type == v5* ]] && echo v2-alpha-tpuv5-lite || echo tpu-ubuntu2204-base
}

create() {
    execute gcloud compute tpus queued-resources create "$name" --node-id="$name" --zone="$zone" \
        --accelerator-type="$type" --runtime-version="$runtime" ${spot:+--spot} \
        --scopes=https://www.googleapis.com/auth/cloud-platform --quiet
}

delete() {
    execute gcloud compute tpus queued-resources delete "$name" --zone="$zone" --force --quiet
}

state() {
    look gcloud compute tpus queued-resources list --zone="$zone" --filter="name~/$name\$" \
        --format="value(state.state)"
}

copy_to_all() {
    execute gcloud compute tpus tpu-vm scp "$1" "$name:tlc_jax.tar.gz" --zone="$zone" --worker=all --quiet
}

on_first() {
    execute gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=0 --command="$1" --quiet
}

on_all() {
    execute gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1" --quiet
}

start_on_all() {
    local words=("$@")
    case "$type $*" in
    v[234]-8\ * | v5litepod-[148]\ * | *--hosts.*) ;;
    *) words+=(--hosts.coordinator auto) ;;
    esac
    on_all "$on_node start $(quoted "${words[@]}")"
}

parse "$@"
runtime=$(runtime)
main
