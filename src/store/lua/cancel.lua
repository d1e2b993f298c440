-- cancel: a turn ends as cancelled, now, wherever it stands. An ended one stays as it is.
-- ARGV  3 interaction · 4 reason
-- gives {'cancelled', status before, next turn or ''} · {'ended', status} · {'gone'}
local id = ARGV[3]
local status = get(interaction_key(id), 'status')
if status == '' then return { 'gone' } end
if ended(status) then return { 'ended', status } end
if status == 'queued' then redis.call('LREM', queue, 0, id) end
return { 'cancelled', status, cancel(id, ARGV[4]) }
