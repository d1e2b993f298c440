-- pending: a turn that waits for an agent is told its place in the line, when that is another than it was told before.
-- ARGV  3 interaction · 4 place (1: next)
-- gives {'ok', tip} · {'same'} · {'taken'} it does not wait for an agent (any more)
local id = ARGV[3]
local key = interaction_key(id)
if get(key, 'status') ~= 'waiting' or get(session, 'waitingInteractionId') ~= id or redis.call('EXISTS', lease) == 1 then
  return { 'taken' }
end
local place = get(key, 'attempt') .. ':' .. ARGV[4] -- a turn that lost its agent begins to wait anew
if get(key, 'place') == place then return { 'same' } end
redis.call('HSET', key, 'place', place)
return { 'ok', record(id, { '{"type":"pending","position":' .. ARGV[4] .. '}' }) }
