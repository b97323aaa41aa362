#!/usr/bin/env bash
# Start PostgreSQL as the official image does. The contract is docs/user/images.md; each point has a test.
set -Eeo pipefail

self=/usr/local/bin/docker-entrypoint.sh
init_directory=/docker-entrypoint-initdb.d

say() { printf '%s\n' "$*"; }
die() { printf 'Error: %s\n' "$*" >&2; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

# VAR from VAR, or from the file that VAR_FILE names, or the default.
setting() {
  local name=$1 default=${2:-} file_name=$1_FILE
  if [ -n "${!name:-}" ] && [ -n "${!file_name:-}" ]; then
    die "both $name and $file_name are set; set only one of them"
  fi
  if [ -n "${!file_name:-}" ]; then
    local value
    value=$(<"${!file_name}") || die "$file_name: cannot read ${!file_name}"
    export "$name=$value"
  else
    export "$name=${!name:-$default}"
  fi
  unset "$file_name"
}

# `postgres --help` and the like need no database.
only_informs() {
  local argument
  for argument in "$@"; do
    case $argument in
      '-?' | --help | --describe-config | -V | --version) return 0 ;;
    esac
  done
  return 1
}

prepare_directories() {
  mkdir -p "$PGDATA"
  # Someone else's mount may refuse these; PostgreSQL itself then says what is wrong.
  chmod 0700 "$PGDATA" || true
  mkdir -p /var/run/postgresql || true
  chmod 3775 /var/run/postgresql || true
  local directories=("$PGDATA" /var/run/postgresql)
  if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
    mkdir -p "$POSTGRES_INITDB_WALDIR"
    chmod 0700 "$POSTGRES_INITDB_WALDIR" || true
    directories+=("$POSTGRES_INITDB_WALDIR")
  fi
  if is_root; then
    find "${directories[@]}" ! -user postgres -exec chown postgres {} +
  fi
}

require_password() {
  if [ -z "$POSTGRES_PASSWORD" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
    die "Database is uninitialized and superuser password is not specified.
       Set POSTGRES_PASSWORD (or POSTGRES_PASSWORD_FILE) to a value that is not empty.
       POSTGRES_HOST_AUTH_METHOD=trust lets everybody in without a password; not for production."
  fi
  if [ "${POSTGRES_HOST_AUTH_METHOD:-}" = trust ]; then
    say 'WARNING: POSTGRES_HOST_AUTH_METHOD is trust: anybody who reaches the port is superuser.' >&2
  fi
}

# initdb wants a name for its uid, which an arbitrary --user has not.
borrow_a_name() {
  getent passwd "$(id -u)" >/dev/null && return
  local library
  for library in /usr/lib/*/libnss_wrapper.so; do
    NSS_WRAPPER_PASSWD=$(mktemp) NSS_WRAPPER_GROUP=$(mktemp)
    export LD_PRELOAD=$library NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
    say "postgres:x:$(id -u):$(id -g):PostgreSQL:$PGDATA:/bin/false" >"$NSS_WRAPPER_PASSWD"
    say "postgres:x:$(id -g):" >"$NSS_WRAPPER_GROUP"
  done
}

return_the_name() {
  [ -n "${NSS_WRAPPER_PASSWD:-}" ] || return 0
  rm -f "$NSS_WRAPPER_PASSWD" "$NSS_WRAPPER_GROUP"
  unset LD_PRELOAD NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP
}

create_cluster() {
  shift
  borrow_a_name
  local options=(--username="$POSTGRES_USER")
  if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
    options+=(--waldir="$POSTGRES_INITDB_WALDIR")
  fi
  # POSTGRES_INITDB_ARGS is a piece of command line, quotes and all.
  eval "initdb \"\${options[@]}\" --pwfile=<(printf '%s\n' \"\$POSTGRES_PASSWORD\") $POSTGRES_INITDB_ARGS"
  return_the_name

  local method=${POSTGRES_HOST_AUTH_METHOD:-}
  [ -n "$method" ] || method=$(postgres -C password_encryption "$@")
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

# Only the socket listens, so that nobody takes the half-made database for the real one.
start_temporary_server() {
  shift
  local options
  options=$(printf '%q ' "$@" -c listen_addresses= -p "${PGPORT:-5432}")
  NOTIFY_SOCKET='' PGUSER=${PGUSER:-$POSTGRES_USER} pg_ctl -D "$PGDATA" -o "$options" -w start
}

stop_temporary_server() {
  PGUSER=${PGUSER:-postgres} pg_ctl -D "$PGDATA" -m fast -w stop
}

# Sourced init scripts may call this; the official image has it under the same name.
docker_process_sql() {
  PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-password --no-psqlrc \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" "$@"
}

create_database() {
  local found
  found=$(docker_process_sql --dbname postgres --tuples-only --set db="$POSTGRES_DB" \
    <<<"SELECT 1 FROM pg_database WHERE datname = :'db'")
  if [ -z "$found" ]; then
    docker_process_sql --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db"'
  fi
}

run_init_files() {
  local file
  for file in "$init_directory"/*; do
    case $file in
      *.sh)
        if [ -x "$file" ]; then
          say "$self: running $file"
          "$file"
        else
          say "$self: sourcing $file"
          # shellcheck source=/dev/null
          . "$file"
        fi
        ;;
      *.sql) say "$self: running $file"; docker_process_sql -f "$file" ;;
      *.sql.gz) say "$self: running $file"; gunzip -c "$file" | docker_process_sql ;;
      *.sql.xz) say "$self: running $file"; xzcat "$file" | docker_process_sql ;;
      *.sql.zst) say "$self: running $file"; zstd -dc "$file" | docker_process_sql ;;
      "$init_directory/*") ;;
      *) say "$self: ignoring $file" ;;
    esac
  done
}

initialise() {
  require_password
  # Unreadable is better found out before there is half a database.
  ls "$init_directory/" >/dev/null
  create_cluster "$@"
  export PGPASSWORD=${PGPASSWORD:-$POSTGRES_PASSWORD}
  start_temporary_server "$@"
  create_database
  run_init_files
  stop_temporary_server
  unset PGPASSWORD
  say 'PostgreSQL init process complete; ready for start up.'
}

main() {
  case ${1:-} in -*) set -- postgres "$@" ;; esac

  if [ "${1:-}" = postgres ] && ! only_informs "$@"; then
    prepare_directories
    if is_root; then
      exec env HOME=/var/lib/postgresql setpriv --reuid=postgres --regid=postgres --init-groups "$self" "$@"
    fi
    setting POSTGRES_PASSWORD
    setting POSTGRES_USER postgres
    setting POSTGRES_DB "$POSTGRES_USER"
    setting POSTGRES_INITDB_ARGS
    if [ -s "$PGDATA/PG_VERSION" ]; then
      say 'PostgreSQL Database directory appears to contain a database; Skipping initialization'
    else
      initialise "$@"
    fi
  fi

  exec "$@"
}

main "$@"
