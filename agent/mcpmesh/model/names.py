"""Names that outlive an agent: the next one, and `verify`, find by them what an earlier one has left."""

# The agent's role in the mark of its process; every other role stands with what starts that process.
AGENT = "agent"

# Who the agent is when it proves that an instance answers; allowed everywhere, and nothing else is.
AGENT_IDENTITY = "mcpmesh-agent"
# Who it is when it proves that others are kept out: an identity that no intention knows.
STRANGER_IDENTITY = "mcpmesh-stranger"
