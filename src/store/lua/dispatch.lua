-- dispatch: what the holder of the lease must do now. Gives a turn a new request id when it has to be (re)delivered.
-- ARGV  3 epoch · 4 request the agent has in hand, or '' · 5 most attempts · 6 agent lost after output: 'fail' | 'retry'
--       7 agent, for the log · 8 last request the holder heard of in this epoch, or '' (then a call whose answer was lost
--       gives the same request again) · '*' not told · 9 which run of the agent this is, or ''
--       10 '1': the agent takes no new turn of a client
-- gives {'turn', interaction, request, attempt, thread, input, metadata, pool, tip, origin: 'client' | 'agent', when it was
--       created, its trail: request id, traceparent, tracestate} deliver this
--       {'held', interaction, request, agent's last event, '1' to ask the agent whether it is still at it, permission,
--       answer, …} the agent has it already; clients have answered these of its permissions · {'idle'}
--       {'others'} what comes next is not for this agent
--       {'ended', interaction, code} the turn could not go on: look again · {'superseded', epoch now} · {'gone'}
if redis.call('EXISTS', session) == 0 then return { 'gone' } end
if get(session, 'epoch') ~= ARGV[3] then return { 'superseded', get(session, 'epoch') } end
local id = get(session, 'waitingInteractionId')
if id == '' then return { 'idle' } end
local key = interaction_key(id)
local status, request, attempt = get(key, 'status'), get(key, 'request'), number(key, 'attempt')
if status == '' or ended(status) then -- only after Redis lost writes: the place must not stay taken
  advance()
  return { 'ended', id, 'lost' }
end
if ARGV[4] ~= '' and (request == ARGV[4] or adopt(id, ARGV[4], 'd' .. string.format('%.0f', at))) then
  local late = number(key, 'askedAt') > number(key, 'lastActivityAt')
  local held = { 'held', id, ARGV[4], number(key, 'agentTip'), late and '1' or '' }
  for permission, it in pairs(permissions(key)) do
    if it.answer then
      held[#held + 1] = permission
      held[#held + 1] = it.answer
    end
  end
  return held
end
if ARGV[10] == '1' and get(key, 'origin') == '' then return { 'others' } end
local function turn(tip)
  return { 'turn', id, request, attempt, get(session, 'thread'), get(key, 'input'), get(key, 'metadata'),
    get(session, 'pool'), tip, get(key, 'origin') == '' and 'client' or 'agent', get(key, 'createdAt'),
    get(key, 'requestId'), get(key, 'traceparent'), get(key, 'tracestate') }
end
if ARGV[8] ~= '*' and request ~= '' and request ~= ARGV[8] and status == 'waiting'
  and get(key, 'dispatchEpoch') == ARGV[3] then
  return turn(number(key, 'tip'))
end
-- The same run of its agent, over a newer connection, without it: it never had it, or left it aside while it was moving. Once
-- that costs no attempt; more often would be a circle.
if ARGV[9] ~= '' and get(key, 'run') == ARGV[9] and request ~= '' and request ~= get(key, 'repeated')
  and status == 'waiting' and number(key, 'agentTip') == 0 and get(key, 'dispatchEpoch') ~= ARGV[3] then
  redis.call('HSET', key, 'dispatchEpoch', ARGV[3], 'repeated', request)
  return turn(number(key, 'tip'))
end
local origin = get(key, 'origin')
if origin ~= '' and (origin ~= ARGV[7] or attempt > 0) then -- nobody else has it, and it cannot be sent
  fail(id, 'agent_disconnected', 'The agent that began this turn went away in the middle of it.')
  return { 'ended', id, 'agent_disconnected' }
end
if status == 'streaming' then
  if ARGV[6] ~= 'retry' then
    fail(id, 'agent_disconnected', 'The agent lost the turn in the middle of its answer.')
    return { 'ended', id, 'agent_disconnected' }
  end
  if attempt < most_attempts(key, ARGV[5]) then
    record(id, { cjson.encode({ type = 'reset', reason = 'agent_disconnected', attempt = attempt + 1 }) })
  end
end
if attempt >= most_attempts(key, ARGV[5]) then
  fail(id, 'attempts_exhausted', 'The turn was handed to agents ' .. attempt .. ' times and none answered.')
  return { 'ended', id, 'attempts_exhausted' }
end
attempt = attempt + 1
request = 'req_' .. string.sub(id, 5) .. '_' .. attempt
redis.call('HSET', key, 'status', 'waiting', 'request', request, 'attempt', attempt, 'agentTip', 0,
  'dispatchEpoch', ARGV[3], 'run', ARGV[9], 'dispatchedAt', at, 'lastActivityAt', at)
redis.call('HDEL', key, 'permissions')
redis.call('HSET', session, 'lastRequestId', request)
return turn(record(id, {
  cjson.encode({ type = 'dispatched', request = request, attempt = attempt, agent = ARGV[7] }),
}))
