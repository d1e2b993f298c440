-- release: an agent connection gives a session up.
-- ARGV  3 epoch · 4 'done' nothing to do any more | 'lost' the connection broke | 'left' the agent is gone for good
--       5 grace, ms: how long a lost agent may take to come back
-- Whoever gave it up for good may not renew it any more: the epoch ends with the lease.
-- gives {'ok', current interaction or ''} · {'busy', current interaction} not done after all · {'superseded'}
if get(lease, 'epoch') ~= ARGV[3] then return { 'superseded' } end
local id = get(session, 'waitingInteractionId')
if ARGV[4] == 'done' and id ~= '' then return { 'busy', id } end
redis.call('HDEL', session, 'held')
if ARGV[4] == 'lost' then
  redis.call('HSET', lease, 'state', 'lost')
  redis.call('PEXPIRE', lease, ARGV[5])
else
  redis.call('DEL', lease)
  if redis.call('EXISTS', session) == 1 then redis.call('HINCRBY', session, 'epoch', 1) end
end
return { 'ok', id }
