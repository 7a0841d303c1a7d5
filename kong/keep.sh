#!/bin/sh
# Runs one Kong in the foreground: keep.sh KONG PREFIX, its settings in the environment.
#
# nginx wipes the environment that its processes show, and with it the mark by
# which the agent finds its own; this shell keeps it. When Kong has ended,
# whatever is left of its process group ends too: workers outlive a master that
# was killed.
kong=$1
prefix=$2

end() {
  if master=$(cat "$prefix/pids/nginx.pid" 2>/dev/null) && kill -s TERM "$master" 2>/dev/null; then
    return
  fi
  # It has not come so far as to have an nginx.
  kill -s TERM "$child" 2>/dev/null
}

"$kong" start --prefix "$prefix" &
child=$!
trap end TERM INT HUP

while kill -0 "$child" 2>/dev/null; do
  wait "$child"
done
kill -s KILL 0
