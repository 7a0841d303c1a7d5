#!/bin/sh
# What the entrypoint of Kong's image does with `kong docker-start`: it prepares the prefix and becomes nginx.
set -eu
if [ "$*" = "kong docker-start" ]; then
  prefix=${KONG_PREFIX:-/usr/local/kong}
  kong prepare -p "$prefix"
  exec /usr/local/openresty/nginx/sbin/nginx -p "$prefix" -c nginx.conf
fi
exec "$@"
