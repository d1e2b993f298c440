-- present: an agent is here, by a connection that has just come or is still there. Its entry is that of the connection
-- which came last: what an older one, not yet closed or late with its arrival, says is not heard.
-- KEYS  1 the agent's entry · 2 its pool's agents
-- ARGV  1 agent · 2 connection · 3 '1' when it has just come · 4 now, ms · 5 TTL, ms · 6 when the connection began, ms
--       7… fields and values
-- gives {1, what an operator asks of this connection, or ''} · {0} a newer connection is here
local current = redis.call('HGET', KEYS[1], 'connection')
local since = tonumber(redis.call('HGET', KEYS[1], 'since') or '0')
if current and current ~= ARGV[2] and (ARGV[3] ~= '1' or since > tonumber(ARGV[6])) then return { 0 } end
redis.call('HSET', KEYS[1], 'agent', ARGV[1], 'connection', ARGV[2], 'since', ARGV[6], unpack(ARGV, 7))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('ZADD', KEYS[2], tonumber(ARGV[4]) + tonumber(ARGV[5]), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
if redis.call('HGET', KEYS[1], 'orderFor') ~= ARGV[2] then return { 1, '' } end
return { 1, redis.call('HGET', KEYS[1], 'order') or '' }
