-- submit: store a message; it is the session's turn now, or it waits. Idempotent by its id.
-- ARGV  3 interaction · 4 input · 5 metadata, JSON · 6 '1' to interrupt · 7 most that may wait · 8 most turns kept
-- gives {'ok', position (0: its turn now), lease holder or '', interrupted turn or '', pool}
--       {'known', position, lease holder, '', pool} · {'gone'} no such session · {'full'}
if redis.call('EXISTS', session) == 0 then return { 'gone' } end
local id, interrupt = ARGV[3], ARGV[6] == '1'
local key = interaction_key(id)
local current = get(session, 'waitingInteractionId')

local function position()
  local found = redis.call('LPOS', queue, id)
  return found and found + 1 or 0
end
local function answer(word, interrupted)
  return { word, position(), get(lease, 'agent'), interrupted, get(session, 'pool') }
end

if redis.call('EXISTS', key) == 1 then return answer('known', '') end
if current ~= '' and redis.call('EXISTS', interaction_key(current)) == 0 then -- only after Redis lost writes
  advance()
  current = get(session, 'waitingInteractionId')
end
if current ~= '' and not interrupt and redis.call('LLEN', queue) >= tonumber(ARGV[7]) then return { 'full' } end

touch()
redis.call('HSET', key, 'id', id, 'status', 'queued', 'input', ARGV[4], 'metadata', ARGV[5], 'createdAt', at,
  'pool', get(session, 'pool'), 'owner', get(session, 'owner'), 'attempt', 0, 'tip', 0, 'agentTip', 0)
redis.call('RPUSH', history, id)
redis.call('PEXPIRE', history, session_ttl)
while redis.call('LLEN', history) > tonumber(ARGV[8]) do
  local old = redis.call('LINDEX', history, 0)
  if not ended(get(interaction_key(old), 'status')) and redis.call('EXISTS', interaction_key(old)) == 1 then break end
  redis.call('LPOP', history)
  redis.call('LREM', runs, 1, old)
  redis.call('DEL', interaction_key(old), log_key(old))
end

local ahead = 0
if current ~= '' then
  redis.call(interrupt and 'LPUSH' or 'RPUSH', queue, id)
  redis.call('PEXPIRE', queue, session_ttl)
  if not interrupt then ahead = redis.call('LLEN', queue) end
end
record(id, { '{"type":"submitted","queued":' .. ahead .. '}' })
if current == '' then
  start(id)
  wake()
  return answer('ok', '')
end
if interrupt then
  cancel(current, 'interrupted') -- takes this message from the front of the queue
  return answer('ok', current)
end
return answer('ok', '')
