-- begin: a turn that the agent begins, because a person writes to it directly. It goes before all that clients wait for, and
-- after what was written before; a turn that the agent was given and has not begun to answer steps back into the line.
-- Idempotent by its id.
-- ARGV  3 interaction · 4 input · 5 epoch · 6 most turns kept · 7, 8 its trace: traceparent, tracestate
--       9 how the agent refers to it, or ''
-- gives {'ok' | 'known', position (0: it runs), turn that stepped back or ''} · {'superseded', epoch now} · {'gone'}
if redis.call('EXISTS', session) == 0 then return { 'gone' } end
if get(session, 'epoch') ~= ARGV[5] then return { 'superseded', get(session, 'epoch') } end
local id = ARGV[3]
if redis.call('EXISTS', interaction_key(id)) == 1 then return { 'known', position(id), '' } end
local current = get(session, 'waitingInteractionId')
local key = interaction_key(current)
if current ~= '' and redis.call('EXISTS', key) == 0 then current = '' end -- only after Redis lost writes
local yields = current ~= '' and get(key, 'status') == 'waiting' and get(key, 'origin') == ''

touch()
enlist(id, ARGV[4], '{}', ARGV[6], '')
keep_trail(id, '', ARGV[7], ARGV[8])
redis.call('HSET', session, 'agent', get(session, 'holder')) -- it has the thread now
redis.call('HSET', interaction_key(id), 'origin', get(session, 'agent'), 'agentRef', ARGV[9])
local ahead = current ~= '' and not yields
if ahead then queue_first(id) end
record(id, { '{"type":"submitted","queued":' .. position(id) .. ',"origin":"agent"}' })
if ahead then return { 'ok', position(id), '' } end
if yields then
  redis.call('HSET', key, 'status', 'queued', 'request', '', 'yielded', get(key, 'request'))
  queue_first(current)
  record(current, { '{"type":"yielded"}' })
end
redis.call('HDEL', session, 'lastRequestId')
start(id)
wake()
return { 'ok', 0, yields and current or '' }
