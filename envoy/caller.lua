-- On every caller's proxy (a sidecar's outbound side, the ingress).
--
-- A session of the older protocol lives in one instance, and its id ends with
-- "@" and the address of that instance's sidecar. Send the request there while
-- that host is in the cluster; when it has gone, let the balancer choose: the
-- shim there answers 404 and the client opens a new session, as MCP specifies.
--
-- Without a session, an answer that says of itself that the call never reached
-- the server is tried again on another instance; no other answer is.
function envoy_on_request(handle)
  local headers = handle:headers()
  local session = headers:get("mcp-session-id")
  if session == nil then
    headers:replace("x-envoy-retry-on", "retriable-headers")
    headers:replace("x-envoy-retriable-header-names", "x-mcpmesh-not-started")
    return
  end
  local address = string.match(session, "@([%x%.:%[%]]+:%d+)$")
  if address ~= nil then
    handle:setUpstreamOverrideHost(address, false)
  end
end
