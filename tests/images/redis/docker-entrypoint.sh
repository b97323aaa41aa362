#!/bin/sh
# Start Redis as the official image does. The contract is docs/user/images.md; each point has a test.
set -e

case ${1:-} in
  -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "${1:-}" = redis-server ] && [ "$(id -u)" = 0 ]; then
  find . ! -user redis -exec chown redis {} +
  exec setpriv --reuid=redis --regid=redis --init-groups "$0" "$@"
fi

# Dumps and append-only files hold everything that the password protects.
if [ "$(umask)" = 0022 ]; then
  umask 0077
fi

sets_protected_mode() {
  grep -qiE '^[[:space:]]*protected-mode[[:space:]]' "$1" && return 0
  grep -iE '^[[:space:]]*include[[:space:]]' "$1" | while read -r _ included; do
    for included in $included; do
      if [ -r "$included" ] && sets_protected_mode "$included"; then exit 1; fi
    done
  done || return 0
  return 1
}

# The official build has protected mode off unless a configuration sets it; Debian's has it on.
if [ "${1:-}" = redis-server ]; then
  configured=
  for argument in "$@"; do
    case $argument in
      --protected-mode* | --sentinel | --version | -v | --help | -h | --test-memory | - | --check-system) configured=yes ;;
    esac
  done
  if [ -z "$configured" ] && [ -r "${2:-}" ] && sets_protected_mode "$2"; then
    configured=yes
  fi
  [ -n "$configured" ] || set -- "$@" --protected-mode no
fi

exec "$@"
