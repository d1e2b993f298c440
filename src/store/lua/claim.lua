-- claim: an agent with free places takes sessions that wait, those that wait for it first. Who pops a session is
-- responsible for it; the sweep finds what a replica popped and then died with.
-- KEYS  1 the agent's own line · 2 its pool's line        ARGV  1 most to take
-- gives the sessions, first come first
local taken = {}
for _, line in ipairs(KEYS) do
  local free = tonumber(ARGV[1]) - #taken
  if free > 0 then
    local popped = redis.call('ZPOPMIN', line, free)
    for i = 1, #popped, 2 do taken[#taken + 1] = popped[i] end
  end
end
return taken
