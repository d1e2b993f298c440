-- absent: an agent's connection is gone, and with it the agent's entry, unless a newer connection has it by now.
-- KEYS  1 the agent's entry · 2 its pool's agents
-- ARGV  1 agent · 2 connection
-- gives {1} it went · {0} it is another connection's, or there was none
if redis.call('HGET', KEYS[1], 'connection') ~= ARGV[2] then return { 0 } end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return { 1 }
