#!/bin/sh
# Gives the bridge of a network a MAC address of its own: senex-bridge-address NETWORK
# netavark does so from 1.9 on. A bridge without one has the lowest of its ports', which moves when containers come and go,
# and those that run lose their resolver and the way out until they ask for it anew.
set -eu
address=02:73:65:6e:65:78 # seen in the network namespace of this user alone
bridge=$(podman network inspect --format '{{.NetworkInterface}}' "$1")
# shellcheck disable=SC2016 # for the inner shell
exec podman unshare --rootless-netns sh -euc '
    case $(ip -o link show dev "$1") in
        *" $2 "*) ;;
        *) ip link set dev "$1" address "$2" ;;
    esac
' sh "$bridge" "$address"
