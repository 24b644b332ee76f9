#!/bin/bash
# Whether a node of a cluster is ready for clients. For the first time it is when every node is there, and each queue
# would outlive the loss of one; later, while it listens.
set -euo pipefail
rabbitmq-diagnostics -q check_port_connectivity
[[ ! -e /tmp/formed ]] || exit 0
commas=${BROKER_NODES//[^,]/}
rabbitmqctl -q await_online_nodes $((${#commas} + 1)) -t 5
rabbitmq-diagnostics -q check_if_node_is_quorum_critical
touch /tmp/formed
