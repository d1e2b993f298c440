-- forget_thread: the agent cannot load its thread any more. The session forgets it; a turn without output is delivered
-- again without a thread, once.
-- ARGV  3 interaction · 4 request · 5 epoch
-- gives {'again', thread that was} · {'fail', thread that was} · {'stale'} not the current request
local key = interaction_key(ARGV[3])
local status = get(key, 'status')
if get(session, 'epoch') ~= ARGV[5] or get(key, 'request') ~= ARGV[4] or status == '' or ended(status) then
  return { 'stale' }
end
local before = get(key, 'forgottenBy')
if before == ARGV[4] then return { 'again', get(key, 'forgottenThread') } end -- the first answer was lost
local thread = get(session, 'thread')
redis.call('HDEL', session, 'thread')
if status ~= 'waiting' or thread == '' or before ~= '' then return { 'fail', thread } end
redis.call('HSET', key, 'forgottenBy', ARGV[4], 'forgottenThread', thread)
return { 'again', thread }
