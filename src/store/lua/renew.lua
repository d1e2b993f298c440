-- renew: the lease lives on. One that expired unclaimed (Redis was away longer than its TTL) is taken up again.
-- ARGV  3 epoch · 4 TTL, ms · 5 agent · 6 connection · 7 replica · 8 transport
--       9 when the connection began, ms
-- gives {'ok', current interaction or '', its request or ''} · {'superseded', epoch now} · {'gone'}
if redis.call('EXISTS', session) == 0 then return { 'gone' } end
if get(session, 'epoch') ~= ARGV[3] then return { 'superseded', get(session, 'epoch') } end
if get(lease, 'state') == 'lost' then return { 'superseded', ARGV[3] } end -- its connection broke while this was under way
if redis.call('EXISTS', lease) == 0 then
  redis.call('HDEL', session, 'missedAt')
  redis.call('HSET', lease, 'agent', ARGV[5], 'connection', ARGV[6], 'replica', ARGV[7], 'epoch', ARGV[3],
    'transport', ARGV[8], 'since', ARGV[9], 'state', 'active')
end
redis.call('PEXPIRE', lease, ARGV[4])
local id = get(session, 'waitingInteractionId')
if id ~= '' then touch() end -- a turn may run longer than an idle session lives
return { 'ok', id, get(session, 'lastRequestId') }
