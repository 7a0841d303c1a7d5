-- On every caller's proxy (a sidecar's outbound side, the ingress).
--
-- A session of the older protocol lives in one instance, and its id ends with
-- "@" and the address of that instance's sidecar. So does the requestState of a
-- call of the newer one that waits there for its client's input. Send the
-- request there while that host is in the cluster; when it has gone, let the
-- balancer choose: the shim there answers that the session, or the state, is
-- not known, and the client begins anew, as MCP specifies.
--
-- Without an owner, an answer that says of itself that the call never reached
-- the server is tried again on another instance; no other answer is.

-- These alone may ask for input (2026-07-28/basic/patterns/mrtr.mdx).
local MAY_ASK = { ["tools/call"] = true, ["prompts/get"] = true, ["resources/read"] = true }
-- The first revision that has no sessions; revisions are dates.
local STATELESS = "2026-07-28"
-- Envoy holds a body back while it is looked at, and refuses what is longer
-- than its buffer of 1 MiB. A longer one, or one of unknown length, goes
-- through unseen (docs/decisions/0014).
local SEEN_BYTES = 256 * 1024

local function owner_of_state(handle, headers)
  -- A header that is not there is no value at all, which tonumber refuses.
  local length = tonumber(headers:get("content-length") or "")
  if not MAY_ASK[headers:get("mcp-method")] or length == nil or length > SEEN_BYTES then
    return nil
  end
  local body = handle:body()
  if body == nil then
    return nil
  end
  local text = body:getBytes(0, body:length())
  if not string.find(text, '"requestState"', 1, true) then
    return nil
  end
  -- Without what is escaped, a quote is the end or the beginning of a text.
  text = string.gsub(text, "\\.", "")
  return string.match(text, '"requestState"%s*:%s*"[^"]-@([%x%.:%[%]]+:%d+)"')
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local session = headers:get("mcp-session-id")
  local version = headers:get("mcp-protocol-version")
  if version ~= nil and version >= STATELESS then
    session = nil -- an id that comes all the same means nothing
  end
  local owner
  if session ~= nil then
    owner = string.match(session, "@([%x%.:%[%]]+:%d+)$")
  else
    owner = owner_of_state(handle, headers)
  end
  -- What is no IP address is refused by an error, and owns nothing.
  if owner ~= nil and not pcall(handle.setUpstreamOverrideHost, handle, owner, false) then
    owner = nil
  end
  if session == nil and owner == nil then
    -- Waiting for a body ended the scope of what was looked up before.
    headers = handle:headers()
    headers:replace("x-envoy-retry-on", "retriable-headers")
    headers:replace("x-envoy-retriable-header-names", "x-mcpmesh-not-started")
  end
end
