-- attach: an agent connection takes the lease of a session. Its own older connection loses it; an older one that comes
-- later, since its welcome took longer, does not get it back from a newer one.
-- ARGV  3 agent · 4 connection · 5 replica · 6 transport · 7 lease TTL, ms · 8 request the agent has in hand, or ''
--       9 its last acknowledged event · 10 lowest epoch to give · 11 incarnation to use if needed
--       12 when the connection began, ms
-- gives {'ok', epoch, current interaction or '', its request, its status, agent's last event in the log, pool}
--       {'taken', agent} · {'superseded'} a newer connection of the agent has it · {'gone'}
if redis.call('EXISTS', session) == 0 then return { 'gone' } end
local holder = get(lease, 'agent')
if holder ~= '' and holder ~= ARGV[3] then return { 'taken', holder } end
if holder ~= '' and get(lease, 'state') == 'active' and number(lease, 'since') > tonumber(ARGV[12]) then
  return { 'superseded' }
end
local epoch = math.max(number(session, 'epoch'), tonumber(ARGV[10])) + 1
redis.call('HSET', session, 'epoch', epoch, 'holder', ARGV[3], 'held', 1)
redis.call('HDEL', session, 'missedAt')
redis.call('DEL', lease)
redis.call('HSET', lease, 'agent', ARGV[3], 'connection', ARGV[4], 'replica', ARGV[5], 'epoch', epoch,
  'transport', ARGV[6], 'since', ARGV[12], 'state', 'active')
redis.call('PEXPIRE', lease, ARGV[7])
touch()
local id = get(session, 'waitingInteractionId')
-- who comes in vain (the turn was cancelled meanwhile) does not become the one that has the thread
if id ~= '' or get(session, 'agent') == '' then redis.call('HSET', session, 'agent', ARGV[3]) end
if id == '' then return { 'ok', epoch, '', '', '', 0, get(session, 'pool') } end
local key = interaction_key(id)
local held = ARGV[8]
if held ~= '' and not adopt(id, held, ARGV[11]) and get(key, 'request') == held
  and number(key, 'agentTip') < tonumber(ARGV[9]) then
  redis.call('HSET', key, 'incarnation', ARGV[11]) -- readers may have seen more than the log now has
  record(id, {})
end
return { 'ok', epoch, id, get(key, 'request'), get(key, 'status'), number(key, 'agentTip'), get(session, 'pool') }
