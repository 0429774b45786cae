-- Health of every kind of slipway.dev from its conditions.
local status = obj.status or {}
local generation = obj.metadata.generation or 0

if (status.observedGeneration or 0) < generation then
  return { status = "Progressing", message = "The operator has not seen this change yet." }
end

local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end

local function is(kind, value)
  return found[kind] ~= nil and found[kind].status == value
end

if is("Stalled", "True") then
  return { status = "Degraded", message = found.Stalled.message }
end
if is("Succeeded", "False") then
  return { status = "Degraded", message = found.Succeeded.message }
end
if is("Suspended", "True") then
  return { status = "Suspended", message = found.Suspended.message }
end
for _, kind in ipairs({ "Ready", "Succeeded" }) do
  if is(kind, "True") then
    return { status = "Healthy", message = found[kind].message }
  end
end

local waiting = found.Ready or found.Succeeded
return { status = "Progressing", message = waiting and waiting.message or "The operator has not said anything yet." }
