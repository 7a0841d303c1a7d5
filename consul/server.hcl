# The embedded Consul: one server, on loopback, that denies what nobody allowed.
# Ports, folders and the node's name differ between meshes; the agent hands them
# over in a second file beside this one.

server           = true
bootstrap_expect = 1
datacenter       = "dc1"
log_level        = "INFO"

bind_addr      = "127.0.0.1"
client_addr    = "127.0.0.1"
advertise_addr = "127.0.0.1"

connect {
  enabled = true
}

# Without ACLs the default would be to allow, and an intention for some requests
# would then let through whatever it does not mention.
default_intention_policy = "deny"

# A lone server has nobody to wait for.
performance {
  raft_multiplier = 1
}

# It is stopped and started again, and never leaves its cluster of one.
leave_on_terminate         = false
skip_leave_on_interrupt    = true
rejoin_after_leave         = true
enable_script_checks       = false
enable_local_script_checks = false
disable_remote_exec        = true

# It speaks to nobody outside this machine.
disable_update_check        = true
disable_anonymous_signature = true
peering {
  enabled = false
}

ui_config {
  enabled = true
}
