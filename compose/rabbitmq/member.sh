#!/bin/bash
# Starts a node of a cluster. BROKER_NODES names them all, split by commas.
set -euo pipefail

# Erlang takes its cookie from a file that its owner alone can read; the secret itself is the setup's.
install -m 0400 /run/definitions/erlang.cookie /var/lib/rabbitmq/.erlang.cookie

# Whether another node takes clients, by AMQP or AMQPS.
another_serves() {
    local node port
    for node in ${BROKER_NODES//,/ }; do
        for port in 5672 5671; do
            if [[ $node != "$HOSTNAME" ]] && timeout 1 bash -c "exec 3<>/dev/tcp/$node/$port" 2>/dev/null; then
                return 0
            fi
        done
    done
    return 1
}

# Nodes that have been members wait for nobody here, for they may need each other. Nodes that never ran come one after
# the other: a queue that is declared while others join may get a member on one that is not ready for it.
if [[ ! -d /var/lib/rabbitmq/mnesia ]] && ! another_serves; then
    if [[ $HOSTNAME == "${BROKER_NODES%%,*}" ]]; then
        # The first one begins alone; it would look for the others for minutes.
        echo "[{rabbit, [{cluster_nodes, {['rabbit@$HOSTNAME'], disc}}]}]." >/tmp/alone.config
        export RABBITMQ_ADVANCED_CONFIG_FILE=/tmp/alone.config
    else
        echo "waiting for a node of the cluster" >&2
        until another_serves; do sleep 1; done
    fi
fi

exec docker-entrypoint.sh rabbitmq-server
