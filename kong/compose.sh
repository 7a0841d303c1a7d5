#!/bin/sh
# Starts Kong in compose.yaml. Kong and its Admin API listen on mesh-edge alone. Kong calls the MCP servers on
# mesh-internal through the Envoy in its network namespace, and listens on nothing there.
set -eu

edge=$(getent hosts kong-edge | { read -r found _ && printf '%s' "$found"; }) ||
  { echo "cannot find the address of kong-edge: is this container on mesh-edge?" >&2; exit 1; }

export KONG_PROXY_LISTEN="$edge:8000"
export KONG_ADMIN_LISTEN="$edge:8001"
# Until the agent posts a document, Kong answers 503. An MCP client would take a 404 for the end of its session.
export KONG_DECLARATIVE_CONFIG=/mcpmesh/waiting.yml
# `off` is Kong's value for none.
export KONG_TRACING_INSTRUMENTATIONS="${KONG_TRACING_INSTRUMENTATIONS:-off}"
export KONG_STATUS_LISTEN=off
export KONG_ADMIN_GUI_LISTEN=off
# The image's own entrypoint; images have used both names.
for entry in /docker-entrypoint.sh /entrypoint.sh; do
  [ ! -x "$entry" ] || exec "$entry" kong docker-start
done
echo "cannot start Kong: this image has neither /docker-entrypoint.sh nor /entrypoint.sh" >&2
exit 1
