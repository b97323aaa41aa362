# Completion of the command senex
_senex() {
    local word=${COMP_WORDS[COMP_CWORD]} verbs="status doctor golive activity logs restart shell manage psql redis-cli redis pgbouncer backup pitr restore prune-images releases rollback watchdog parts"
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "$verbs --help" -- "$word")
        return
    fi
    case ${COMP_WORDS[1]} in
        logs | restart | shell) mapfile -t COMPREPLY < <(compgen -W "$(senex parts 2>/dev/null)" -- "$word") ;;
        status | doctor | golive) mapfile -t COMPREPLY < <(compgen -W "--json" -- "$word") ;;
        watchdog) mapfile -t COMPREPLY < <(compgen -W "status pause resume" -- "$word") ;;
        redis) mapfile -t COMPREPLY < <(compgen -W "check repair --snapshot --yes" -- "$word") ;;
        pgbouncer) mapfile -t COMPREPLY < <(compgen -W "show pause resume" -- "$word") ;;
        backup) mapfile -t COMPREPLY < <(compgen -W "dump redis media offsite list verify" -- "$word") ;;
        pitr) mapfile -t COMPREPLY < <(compgen -W "base wal check verify drill drills list plan restore exchange undo" -- "$word") ;;
    esac
}
complete -F _senex senex
