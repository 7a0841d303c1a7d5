# again COMMAND...: up to three times, for what goes over a network. Sourced. In
# a function that it is given, errexit is off: its last command decides.
again() {
  "$@" || { sleep 5 && "$@"; } || { sleep 20 && "$@"; }
}
