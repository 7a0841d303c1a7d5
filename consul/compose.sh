#!/bin/sh
# Starts Consul in compose.yaml. Its API listens on mesh-edge alone, and its xDS on a socket that only Envoys get.
# It listens on nothing of mesh-internal, where the MCP servers are: it only checks their health there.
set -eu

address() {
  getent hosts "$1" | { read -r found _ && printf '%s' "$found"; } ||
    { echo "cannot find the address of $1: is this container on its network?" >&2; exit 1; }
}

SOCKETS=/run/mcpmesh/consul
mkdir -p "$SOCKETS"
edge=$(address consul-edge)
# The image's own /consul/data belongs to its user consul, and root without capabilities may not write there.

exec consul agent -config-file=/mcpmesh/server.hcl -data-dir=/state -node=mcpmesh -hcl="
  addresses { http = \"127.0.0.1 $edge\", grpc = \"unix://$SOCKETS/grpc.sock\" }
  unix_sockets { mode = \"0666\" }
  ports { http = 8500, grpc = 8502, grpc_tls = -1, https = -1, dns = -1, serf_wan = -1 }
"
