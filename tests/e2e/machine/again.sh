# again COMMAND...: runs a command that uses the network, up to three times. This
# file is sourced. Inside a function given as COMMAND, errexit is off: the
# function's last command decides.
again() {
  "$@" || { sleep 5 && "$@"; } || { sleep 20 && "$@"; }
}
