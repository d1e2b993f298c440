-- claim: an agent with free places takes sessions that wait for it or for any of its pool, first come first, so that
-- neither line starves the other. In the same step they go into the agent's set, where its next connection finds them,
-- should this replica die before it has the leases.
-- KEYS  1 the agent's own line · 2 its pool's line · 3 the agent's sessions · 4 the agent's entry
-- ARGV  1 most to take · 2 TTL, ms · 3 connection
-- gives the sessions, first come first; none for a connection that the agent has left for a newer one
local current = redis.call('HGET', KEYS[4], 'connection')
if current and current ~= ARGV[3] then return {} end
local most, taken, seen = tonumber(ARGV[1]), {}, {}
local own = redis.call('ZRANGE', KEYS[1], 0, most - 1, 'WITHSCORES')
local pool = redis.call('ZRANGE', KEYS[2], 0, most - 1, 'WITHSCORES')
local i, j = 1, 1
while #taken < most and (own[i] or pool[j]) do
  local session
  if own[i] and (not pool[j] or tonumber(own[i + 1]) <= tonumber(pool[j + 1])) then
    session, i = own[i], i + 2
  else
    session, j = pool[j], j + 2
  end
  if not seen[session] then
    seen[session] = true
    taken[#taken + 1] = session
    redis.call('ZREM', KEYS[1], session)
    redis.call('ZREM', KEYS[2], session)
    redis.call('SADD', KEYS[3], session)
  end
end
if #taken > 0 then redis.call('PEXPIRE', KEYS[3], ARGV[2]) end
return taken
