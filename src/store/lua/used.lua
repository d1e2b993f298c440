-- used: on what day an API key was last used, unless it is gone by now (it must not come back, without a TTL).
-- KEYS  1 key        ARGV  1 day
-- gives {'ok'} · {'gone'}
if redis.call('EXISTS', KEYS[1]) == 0 then return { 'gone' } end
redis.call('HSET', KEYS[1], 'usedOn', ARGV[1])
return { 'ok' }
