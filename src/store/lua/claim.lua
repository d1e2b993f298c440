-- claim: an agent with free places takes sessions that wait, those that wait for it first. In the same step they go
-- into the agent's set, where its next connection finds them, should this replica die before it has the leases.
-- KEYS  1 the agent's own line · 2 its pool's line · 3 the agent's sessions      ARGV  1 most to take · 2 TTL, ms
-- gives the sessions, first come first
local taken = {}
for i = 1, 2 do
  local free = tonumber(ARGV[1]) - #taken
  if free > 0 then
    local popped = redis.call('ZPOPMIN', KEYS[i], free)
    for j = 1, #popped, 2 do
      taken[#taken + 1] = popped[j]
      if i == 1 then redis.call('ZREM', KEYS[2], popped[j]) end -- it may stand in both lines
    end
  end
end
for _, session in ipairs(taken) do redis.call('SADD', KEYS[3], session) end
if #taken > 0 then redis.call('PEXPIRE', KEYS[3], ARGV[2]) end
return taken
