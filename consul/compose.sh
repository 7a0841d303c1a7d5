#!/bin/sh
# Consul in compose.yaml: its API on mesh-edge alone, xDS at a socket that only Envoys are given, and nothing on
# mesh-internal, where the MCP servers are: there it only looks whether they are well.
set -eu

address() {
  getent hosts "$1" | { read -r found _ && printf '%s' "$found"; } ||
    { echo "cannot find the own address as $1: is this container on its network?" >&2; exit 1; }
}

SOCKETS=/run/mcpmesh/consul
mkdir -p "$SOCKETS"
edge=$(address consul-edge)
# The image's own /consul/data is its user consul's, and root without capabilities may not write there.

exec consul agent -config-file=/mcpmesh/server.hcl -data-dir=/state -node=mcpmesh -hcl="
  addresses { http = \"127.0.0.1 $edge\", grpc = \"unix://$SOCKETS/grpc.sock\" }
  unix_sockets { mode = \"0666\" }
  ports { http = 8500, grpc = 8502, grpc_tls = -1, https = -1, dns = -1, serf_wan = -1 }
"
