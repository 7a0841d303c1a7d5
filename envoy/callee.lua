-- On the inbound side of every sidecar. Where Envoy itself could not connect to
-- the service behind it, the call was never sent: say so, in a header that the
-- caller's proxy knows. An answer of the service itself has been timed upstream,
-- and is left as it is; so is Envoy's 503 for a connection that broke later.
function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get(":status") ~= "503" or headers:get("x-envoy-upstream-service-time") ~= nil then
    return
  end
  local body = handle:body()
  if body == nil then
    return
  end
  local text = body:getBytes(0, math.min(body:length(), 256))
  if string.find(text, "reset reason: %a+ connection failure") then
    -- Waiting for the body ended the scope of what was looked up before.
    handle:headers():replace("x-mcpmesh-not-started", "1")
  end
end
