-- forget: take one interaction out of its session; it is cancelled first, should it run or wait.
-- ARGV  3 interaction
-- gives {'ok', status before} · {'gone'}
local id = ARGV[3]
local status = get(interaction_key(id), 'status')
if status == '' then return { 'gone' } end
if status == 'queued' then redis.call('LREM', queue, 0, id) end
if not ended(status) then cancel(id, 'deleted') end
forget(id)
return { 'ok', status }
