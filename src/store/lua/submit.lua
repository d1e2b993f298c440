-- submit: store a message; it is the session's turn now, or it waits. Idempotent by its id.
-- ARGV  3 interaction · 4 input · 5 metadata, JSON · 6 interrupt: '' | 'now' | 'threaded' · 7 most that may wait
--       8 most turns kept
-- An interrupt cancels the turn in flight and goes first. Before the agent has a thread, 'threaded' lets that turn be (a
-- cancelled first prompt would leave the agent without its context), and so does any interrupt of a Helix agent.
-- gives {'ok', position (0: its turn now), lease holder or '', interrupted turn or '', pool}
--       {'known', position, lease holder, '', pool} · {'gone'} no such session · {'full'}
if redis.call('EXISTS', session) == 0 then return { 'gone' } end
local id, first = ARGV[3], ARGV[6] ~= ''
local key = interaction_key(id)
local current = get(session, 'waitingInteractionId')

local function answer(word, interrupted)
  return { word, position(id), get(lease, 'agent'), interrupted, get(session, 'pool') }
end

if redis.call('EXISTS', key) == 1 then return answer('known', '') end
if current ~= '' and redis.call('EXISTS', interaction_key(current)) == 0 then -- only after Redis lost writes
  advance()
  current = get(session, 'waitingInteractionId')
end
if current ~= '' and not first and redis.call('LLEN', queue) >= tonumber(ARGV[7]) then return { 'full' } end
local spared = get(session, 'thread') == '' and (ARGV[6] == 'threaded' or get(lease, 'transport') == 'helix')

touch()
enlist(id, ARGV[4], ARGV[5], ARGV[8])
local ahead = 0
if current ~= '' then
  redis.call(first and 'LPUSH' or 'RPUSH', queue, id)
  redis.call('PEXPIRE', queue, session_ttl)
  if not first then
    ahead = redis.call('LLEN', queue)
  elseif spared then
    ahead = 1
  end
end
record(id, { '{"type":"submitted","queued":' .. ahead .. '}' })
if current == '' then
  start(id)
  wake()
  return answer('ok', '')
end
if first and not spared then
  cancel(current, 'interrupted') -- takes this message from the front of the queue
  return answer('ok', current)
end
return answer('ok', '')
