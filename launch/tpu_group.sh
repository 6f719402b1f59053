#!/usr/bin/env bash
# TPU v6e, v5p and later through Compute Engine: a managed instance group of one host, or of all hosts of a slice.
#
#   launch/tpu_group.sh up                  create it, wait for it, install this code (again)
#   launch/tpu_group.sh run -- COMMAND...   start a command that outlives the connection
#   launch/tpu_group.sh logs                show its output (of the first host)
#   launch/tpu_group.sh status              show what the hosts and the command are doing
#   launch/tpu_group.sh watch -- COMMAND... up and run; when a host is taken away, create all again, install and
#                                           run again; at the end save the output in NAME.log and delete the group
#   launch/tpu_group.sh down                ask the command to save and end, and delete the group
#
# Options, before the --:
#   --name NAME            of the group, its template and its policy (tlc)
#   --zone ZONE            (europe-west4-a)
#   --machine-type TYPE    ct6e-standard-4t (default), ct6e-standard-1t, ct5p-hightpu-4t, tpu7x-standard-4t; the
#                          number before the t is that of chips
#   --topology TOPOLOGY    of a slice of several hosts, in chips, such as 4x4: four hosts of ct6e-standard-4t
#   --data gs://BUCKET/FOLDER    is copied to each host, as FOLDER in the folder where the command runs
#   --on-demand            at the full price; without it spot, which may be taken away
#   --dry-run              print the commands and execute none
#
# On several hosts the command gets --hosts.coordinator, --hosts.processes and --hosts.index; this needs a gcloud
# of 2026, for --target-size-policy-mode. The project is that of `gcloud config set project`.
set -euo pipefail

name=tlc zone=europe-west4-a machine=ct6e-standard-4t topology=''
# shellcheck source=launch/nodes.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/nodes.sh" # also where a link is called

option() {
    case $1 in
    --machine-type) machine=$2 ;;
    --topology) topology=$2 ;;
    *) return 1 ;;
    esac
}

# How many hosts the machine type and the topology make.
count_hosts() {
    local chips=${machine##*-}
    chips=${chips%t}
    [[ $machine == *-[1-9]t ]] || fail "--machine-type $machine does not end in a number of chips, such as -4t"
    [[ $machine =~ ^(ct5lp-hightpu|ct5p-hightpu|ct6e-standard|tpu7x-standard)-[1248]t$ ]] ||
        fail "--machine-type $machine is not a machine with TPUs, such as ct6e-standard-4t"
    [[ $topology ]] || { echo 1 && return; }
    [[ $topology =~ ^[1-9][0-9]*(x[1-9][0-9]*)+$ ]] || fail "--topology $topology is not like 4x4 or 2x2x4"
    (((${topology//x/*}) % chips == 0)) || fail "--topology $topology does not divide into hosts of $chips chips"
    echo $(((${topology//x/*}) / chips))
}

create() {
    local model=(--provisioning-model=SPOT --instance-termination-action=STOP) slice=()
    [[ $spot ]] || model=(--provisioning-model=STANDARD)
    {
        execute gcloud compute instance-templates create "$name" --machine-type="$machine" "${model[@]}" \
            --image-project=ubuntu-os-accelerator-images --image-family=ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e \
            --maintenance-policy=TERMINATE --boot-disk-size=200GB --scopes=cloud-platform --quiet &&
            if ((hosts > 1)); then
                slice=(--target-size-policy-mode=bulk --workload-policy="$(policy)")
                execute gcloud compute resource-policies create workload-policy "$name" --region="${zone%-*}" \
                    --type=HIGH_THROUGHPUT --accelerator-topology="$topology" --quiet
            fi &&
            execute gcloud compute instance-groups managed create "$name" --zone="$zone" --size="$hosts" \
                --template="$name" --default-action-on-vm-failure=do-nothing ${slice[@]+"${slice[@]}"} --quiet
    } || {
        say "error: $name could not be created; what is there of it is deleted"
        delete
        return 1
    }
}

policy() {
    local project=PROJECT
    [[ $dry_run ]] || project=$(gcloud config get-value project)
    echo "projects/$project/regions/${zone%-*}/resourcePolicies/$name"
}

delete() {
    local policies=''
    [[ $dry_run ]] || policies=$(gcloud compute resource-policies list --filter="name=$name" --format="value(name)")
    execute gcloud compute instance-groups managed delete "$name" --zone="$zone" --quiet || true
    execute gcloud compute instance-templates delete "$name" --quiet || true
    [[ ! $policies && ! ($dry_run && $topology) ]] ||
        execute gcloud compute resource-policies delete "$name" --region="${zone%-*}" --quiet || true
    [[ $dry_run || $(state) == GONE ]]
}

# One line a host, with its name and its status.
instances() {
    execute gcloud compute instance-groups managed list-instances "$name" --zone="$zone" \
        --sort-by=instance --format="value(instance.basename(),instanceStatus)"
}

state() {
    local size lines
    size=$(look gcloud compute instance-groups managed list --zones="$zone" --filter="name=$name" \
        --format="value(targetSize)")
    case $size in
    *[!0-9]*) echo "$size" && return ;; # GONE or UNKNOWN
    esac
    lines=$(instances) || { echo UNKNOWN && return; }
    case $lines in
    *STOP* | *TERMINATED* | *SUSPEND*) echo SUSPENDED ;;
    *) [[ $(grep -c RUNNING <<<"$lines") == "$size" ]] && echo ACTIVE || echo STARTING ;;
    esac
}

names() {
    local i
    if [[ $dry_run ]]; then
        instances
        for ((i = 0; i < hosts; i++)); do echo "$name-host$i"; done
    else
        instances | cut -f 1
    fi
}

on_host() {
    execute gcloud compute ssh "$1" --zone="$zone" --command="$2" --quiet
}

on_first() {
    local first
    first=$(names)
    on_host "${first%%$'\n'*}" "$1"
}

on_all() {
    on_each run_line "$1"
}
run_line() { on_host "$1" "$4"; }

copy_to_all() {
    on_each copy_to "$1"
}
copy_to() { execute gcloud compute scp "$4" "$1:tlc_jax.tar.gz" --zone="$zone" --quiet; }

start_on_all() {
    on_each start_on "$@"
}
start_on() {
    local host=$1 index=$2 first=${3%%$'\n'*} count
    count=$(wc -l <<<"$3")
    shift 3
    case "$count $*" in
    1\ * | *--hosts.*) ;;
    *) set -- "$@" --hosts.coordinator "$first:8476" --hosts.processes "$count" --hosts.index "$index" ;;
    esac
    on_host "$host" "$on_node start $(quoted "$@")"
}

# Calls a function for all hosts at once, with the host, its index, all hosts, and the arguments. Returns 1 if one
# of the calls failed.
on_each() {
    local function=$1 all host index=0 code=0 calls=() call
    shift
    all=$(names)
    [[ $all ]] || return 1
    for host in $all; do
        if [[ $dry_run ]]; then
            "$function" "$host" "$index" "$all" "$@"
        else
            "$function" "$host" "$index" "$all" "$@" &
            calls+=($!)
        fi
        ((++index))
    done
    for call in ${calls[@]+"${calls[@]}"}; do wait "$call" || code=1; done
    return "$code"
}

parse "$@"
hosts=$(count_hosts)
main
