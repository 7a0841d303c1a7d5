#!/bin/sh
# Runs one Kong in the foreground: keep.sh KONG PREFIX. Kong's settings are in the environment.
#
# nginx overwrites the environment of its processes, and with it the mark by
# which the agent finds them. This shell keeps the mark. When Kong has ended,
# the shell kills the rest of its process group, because workers outlive a
# master that was killed.
kong=$1
prefix=$2

end() {
  if master=$(cat "$prefix/pids/nginx.pid" 2>/dev/null) && kill -s TERM "$master" 2>/dev/null; then
    return
  fi
  # Kong has not started nginx yet.
  kill -s TERM "$child" 2>/dev/null
}

"$kong" start --prefix "$prefix" &
child=$!
trap end TERM INT HUP

while kill -0 "$child" 2>/dev/null; do
  wait "$child"
done
kill -s KILL 0
