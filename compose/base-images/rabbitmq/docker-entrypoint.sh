#!/bin/bash
set -euo pipefail

# As root, every RabbitMQ command steps down to the server's user, and the server first gets its data directory.
if [[ "${1:-}" == rabbitmq* && "$(id -u)" == 0 ]]; then
    if [[ "$1" == rabbitmq-server ]]; then
        chown -R rabbitmq:rabbitmq /var/lib/rabbitmq
    fi
    exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups "$0" "$@"
fi

# Variables of older images, which the server does not read. The official image refuses them too: a password file
# that is silently ignored would leave the default password in place.
unsupported='^RABBITMQ_(DEFAULT_(USER|PASS)_FILE|(MANAGEMENT_)?SSL_[A-Z_]+|VM_MEMORY_HIGH_WATERMARK)$'
if found=$(compgen -e | grep -E "$unsupported"); then
    echo "error: not supported, use a configuration file instead:" $found >&2
    exit 1
fi

exec "$@"
