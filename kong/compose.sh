#!/bin/sh
# Kong in compose.yaml: it listens on mesh-edge alone, its Admin API too. On mesh-internal, where the MCP servers are,
# it only calls, through the Envoy in its network namespace.
set -eu

edge=$(getent hosts kong-edge | { read -r found _ && printf '%s' "$found"; }) ||
  { echo "cannot find the own address as kong-edge: is this container on mesh-edge?" >&2; exit 1; }

export KONG_PROXY_LISTEN="$edge:8000"
export KONG_ADMIN_LISTEN="$edge:8001"
# Until the agent hands it a document it answers 503: of a 404 an MCP client takes its session for ended.
export KONG_DECLARATIVE_CONFIG=/mcpmesh/waiting.yml
# Kong's word for none is `off`.
export KONG_TRACING_INSTRUMENTATIONS="${KONG_TRACING_INSTRUMENTATIONS:-off}"
export KONG_STATUS_LISTEN=off
export KONG_ADMIN_GUI_LISTEN=off
# The image's own entrypoint, under either of the names that it has had.
for entry in /docker-entrypoint.sh /entrypoint.sh; do
  [ ! -x "$entry" ] || exec "$entry" kong docker-start
done
echo "cannot start Kong: this image has neither /docker-entrypoint.sh nor /entrypoint.sh" >&2
exit 1
