# again COMMAND...: up to three times, for what goes over a network. Sourced.
again() {
  "$@" || { sleep 5 && "$@"; } || { sleep 20 && "$@"; }
}
