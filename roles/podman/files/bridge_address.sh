#!/bin/sh
# What netavark before 1.9 and the aardvark-dns of its time leave undone in a network of containers: senex-bridge-address NETWORK
# - The bridge gets a MAC address of its own. Without one it has the lowest of its ports', which moves when containers come and go,
#   and those that run lose their resolver and the way out until they ask for it anew.
# - A look-up is never refused. The resolver closes its socket for a moment whenever a container comes or goes, and glibc uses up all its attempts
#   on refusals within a millisecond; a question that nobody answers it asks again after a second.
set -eu
address=02:73:65:6e:65:78 # seen in the network namespace of this user alone
bridge=$(podman network inspect --format '{{.NetworkInterface}}' "$1")
# shellcheck disable=SC2016 # for the inner shell
exec podman unshare --rootless-netns sh -uc '
    PATH=$PATH:/usr/sbin:/sbin
    # In one transaction, so that it can be said again at each start
    nft -f - <<RULES
table ip senex
delete table ip senex
table ip senex {
    chain refusals {
        type filter hook output priority filter; policy accept;
        icmp type destination-unreachable icmp code port-unreachable drop
    }
}
RULES
    refusals=$?
    case $(ip -o link show dev "$1") in
        *" $2 "*) ;;
        *) ip link set dev "$1" address "$2" ;;
    esac && exit "$refusals"
' sh "$bridge" "$address"
