-- pend: a session that needs an agent stands in line: in that of the agent which has its thread, as long as it is to wait
-- for that one and that one is here, else in its pool's. In one line at a time; repeating it changes nothing.
-- KEYS  1 the pool's line · 2 that agent's own line · 3 that agent's entry · 4 the pool's agents
-- ARGV  1 session · 2 since when it waits, ms · 3 that agent, or '' · 4 '1' while it is to wait for it · 5 TTL, ms · 6 wake
--       channel
-- gives {'own' | 'pool', place in that line (1: next), places free for that line, agents here, how many wait in the line}
local base = string.sub(KEYS[1], 1, -8) -- without 'pending'
local MOST = 64 -- agents looked at for a free place; with more of them a turn may say that it waits when it hardly does
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function capacity(agent) return tonumber(redis.call('HGET', base .. 'agent:' .. agent, 'capacity') or '0') end
local function free(agent) return math.max(capacity(agent) - redis.call('SCARD', base .. 'sessions:' .. agent), 0) end

local own = ARGV[3] ~= '' and ARGV[4] == '1' and capacity(ARGV[3]) > 0 and not redis.call('ZSCORE', KEYS[1], ARGV[1])
local line = own and KEYS[2] or KEYS[1]
redis.call('ZADD', line, 'NX', ARGV[2], ARGV[1])
redis.call('PEXPIRE', line, ARGV[5])
if not own then redis.call('ZREM', KEYS[2], ARGV[1]) end

local place, places = redis.call('ZRANK', line, ARGV[1]) + 1, 0
if own then
  places = free(ARGV[3])
else
  for _, agent in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], now, '+inf', 'LIMIT', 0, MOST)) do
    places = places + free(agent)
    if places >= place then break end
  end
end
redis.call('SPUBLISH', ARGV[6], '')
return { own and 'own' or 'pool', place, places, redis.call('ZCOUNT', KEYS[4], now, '+inf'), redis.call('ZCARD', line) }
