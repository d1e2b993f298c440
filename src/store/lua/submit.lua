-- submit: store a message; it is the session's turn now, or it waits. Idempotent by its id.
-- ARGV  3 interaction · 4 input · 5 metadata, JSON · 6 interrupt: '' | 'now' | 'threaded' · 7 most that may wait
--       8 most turns kept · 9 what its door keeps with it, or '' · 10 '1': nothing of it is kept after its end
--       11 pool it is meant for, or '' (a session that has none yet gets it) · 12 the turn that it must follow directly, or ''
--       13 where to post its end, or '': as the session says · 14, 15, 16 its trail: request id, traceparent, tracestate
-- An interrupt cancels the turn in flight and goes first, but for what a person has typed at the agent meanwhile. Before
-- the agent has a thread, 'threaded' lets that turn be (a cancelled first prompt would leave the agent without its
-- context), and so does any interrupt of a Helix agent.
-- gives {'ok', position (0: its turn now), lease holder or '', interrupted turn or '', pool, when it was created}
--       {'known', position, lease holder, '', pool, when it was created} · {'gone'} no such session · {'full'}
--       {'other', pool of the session, '' when it has none} · {'moved'} the session has gone on since
if redis.call('EXISTS', session) == 0 then return { 'gone' } end
local id, first = ARGV[3], ARGV[6] ~= ''
local key = interaction_key(id)
local current = get(session, 'waitingInteractionId')

local function answer(word, interrupted)
  return { word, position(id), get(lease, 'agent'), interrupted, get(session, 'pool'), get(key, 'createdAt') }
end

if redis.call('EXISTS', key) == 1 then return answer('known', '') end
local pool = get(session, 'pool')
if pool == '' then pool = ARGV[11] end
if pool == '' or (ARGV[11] ~= '' and ARGV[11] ~= pool) then return { 'other', pool } end
if ARGV[12] ~= '' then
  local newest = redis.call('HGET', session, 'newest') or redis.call('LINDEX', history, -1) -- one made before 'newest' was kept
  if newest ~= ARGV[12] then return { 'moved' } end
end
if current ~= '' and redis.call('EXISTS', interaction_key(current)) == 0 then -- only after Redis lost writes
  advance()
  current = get(session, 'waitingInteractionId')
end
if current ~= '' and not first and redis.call('LLEN', queue) >= tonumber(ARGV[7]) then return { 'full' } end
local spared = get(session, 'thread') == '' and (ARGV[6] == 'threaded' or get(lease, 'transport') == 'helix')

touch()
redis.call('HSET', session, 'newest', id, 'pool', pool)
enlist(id, ARGV[4], ARGV[5], ARGV[8], ARGV[13])
if ARGV[9] ~= '' then redis.call('HSET', key, 'note', ARGV[9]) end
keep_trail(id, ARGV[14], ARGV[15], ARGV[16])
if ARGV[10] == '1' then redis.call('HSET', key, 'ephemeral', '1') end
local ahead = 0
if current ~= '' then
  if first then
    queue_first(id)
  else
    redis.call('RPUSH', queue, id)
    redis.call('PEXPIRE', queue, session_ttl)
  end
  ahead = position(id) - ((first and not spared) and 1 or 0)
end
record(id, { '{"type":"submitted","queued":' .. ahead .. '}' })
if current == '' then
  start(id)
  wake()
  return answer('ok', '')
end
if first and not spared then
  cancel(current, 'interrupted') -- starts this message, or what a person typed at the agent meanwhile
  return answer('ok', current)
end
return answer('ok', '')
