-- A session of the older protocol lives in one instance, and its id ends with
-- "@" and the address of that instance's sidecar. Send the request there while
-- that host is in the cluster; when it has gone, let the balancer choose: the
-- shim there answers 404 and the client opens a new session, as MCP specifies.
function envoy_on_request(handle)
  local session = handle:headers():get("mcp-session-id")
  if session == nil then
    return
  end
  local address = string.match(session, "@([%x%.:%[%]]+:%d+)$")
  if address ~= nil then
    handle:setUpstreamOverrideHost(address, false)
  end
end
