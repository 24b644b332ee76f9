#!/bin/sh
set -eu

# Options alone, or a configuration file alone, are meant for the server.
case "${1:-}" in
    -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "${1:-}" = redis-server ]; then
    if [ "$(id -u)" = 0 ]; then
        chown -R redis:redis /data
        exec setpriv --reuid=redis --regid=redis --init-groups "$0" "$@"
    fi

    # The data directory is for the server alone.
    [ "$(umask)" != 0022 ] || umask 0077

    # The official image has protected mode off unless the configuration says otherwise: a container's server is
    # reached from other containers. Debian's build has it on.
    case " $* " in
        *' --protected-mode '* | *' --version '* | *' -v '* | *' --help '* | *' -h '*) ;;
        *) grep -qs '^[[:space:]]*protected-mode[[:space:]]' "${2:-}" || set -- "$@" --protected-mode no ;;
    esac
fi

exec "$@"
