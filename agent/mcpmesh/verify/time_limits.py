"""How long `verify` waits, in seconds."""

# Peers answer in milliseconds. On a busy machine a peer, or this program, may stand still for some seconds.
ANSWER_SECONDS = 10.0

# No claim takes longer. Each probe in it has a shorter limit of its own.
CLAIM_SECONDS = 4 * ANSWER_SECONDS
