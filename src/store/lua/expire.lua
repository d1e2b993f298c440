-- expire: the sweep's verdict on one interaction, from the truth.
-- ARGV  3 interaction · 4 longest wait for an agent · 5 longest wait without output (stale) · 6 longest silence
--       7 most attempts · 8 agent lost after output: 'fail' | 'retry' · 9 Redis or all replicas were away until …
--       10 … for so long · 11 no lease counts as lost before this time · 12 tip at which silence was confirmed, or ''
--       13 grace for an agent whose lease ran out although nobody gave it up (all times in ms)
-- gives {'gone'} · {'sealed'} nothing to do · {'unsealed'} ended, its output is not yet kept · {'later', look again at}
--       {'pend', pool, sticky agent, look again at} it needs an agent · {'wake', look again at} its agent may have missed it
--       {'asked', look again at} its agent is asked whether it is still at it
--       {'silent', tip} past the deadline: confirm that no tool is running · {'failed', code, next turn or ''}
--       {'reset', pool, look again at} its agent is lost, it begins anew
local id = ARGV[3]
local key = interaction_key(id)
local status = get(key, 'status')
if status == '' then
  if get(session, 'waitingInteractionId') == id then advance() wake() end
  return { 'gone' }
end
if ended(status) then
  if get(key, 'sealedAt') ~= '' then return { 'sealed' } end
  return { 'unsealed' }
end
if redis.call('EXISTS', session) == 0 then
  fail(id, 'stale', 'The session of this turn is gone.')
  return { 'failed', 'stale', '' }
end
local away_until, away_for = tonumber(ARGV[9]), tonumber(ARGV[10])
local function due(since, limit) -- an outage after `since` moves the deadline by its length
  local when = since + limit
  if since < away_until then when = when + away_for end
  return when
end
local later = at + 30000
local ANSWER_MS = 5000 -- for an agent that is asked
if status == 'queued' then
  if get(session, 'waitingInteractionId') == '' then -- only after Redis lost writes
    advance()
    wake()
  end
  return { 'later', later }
end
local active = number(key, 'lastActivityAt')
local holder, state = get(lease, 'agent'), get(lease, 'state')
if status == 'waiting' then
  local stale = due(number(key, 'startedAt'), tonumber(ARGV[5]))
  if at >= stale then
    return { 'failed', 'stale', fail(id, 'stale', 'No output within ' .. ARGV[5] .. ' ms of its start.') }
  end
  later = math.min(later, stale)
end
if holder ~= '' and state == 'lost' then
  return { 'later', math.min(later, at + math.max(redis.call('PTTL', lease), 0) + 1) }
end
if holder ~= '' then
  later = math.min(later, at + math.max(redis.call('PTTL', lease), 0) + 50) -- its replica may die with it
  local silent = due(active, tonumber(ARGV[6]))
  if at < silent then
    if status == 'waiting' then return { 'wake', math.min(later, silent) } end
    return { 'later', math.min(later, silent) }
  end
  if ARGV[12] ~= get(key, 'tip') then return { 'silent', get(key, 'tip') } end
  if get(lease, 'transport') == 'helix' then -- its word that it is done may have been lost, and it can be asked
    local asked = number(key, 'askedAt')
    if asked <= active then
      redis.call('HSET', key, 'askedAt', at)
      wake()
      return { 'asked', at + ANSWER_MS }
    end
    if at < asked + ANSWER_MS then return { 'asked', asked + ANSWER_MS } end
  end
  return { 'failed', 'agent_silent',
    fail(id, 'agent_silent', 'The agent said nothing for ' .. ARGV[6] .. ' ms.') }
end
if at < tonumber(ARGV[11]) then return { 'later', tonumber(ARGV[11]) } end
if get(session, 'held') ~= '' and get(key, 'request') ~= '' then
  -- its replica hangs, or is gone with its machine: an agent that lives has to notice by silence alone
  redis.call('HSETNX', session, 'missedAt', at)
  local back = number(session, 'missedAt') + tonumber(ARGV[13])
  if at < back then return { 'later', back } end
end
if get(key, 'origin') ~= '' then
  return { 'failed', 'agent_disconnected',
    fail(id, 'agent_disconnected', 'The agent that began this turn went away and did not come back in time.') }
end
if status == 'streaming' then
  if ARGV[8] == 'retry' and number(key, 'attempt') < most_attempts(key, ARGV[7]) then
    record(id, { cjson.encode({ type = 'reset', reason = 'agent_disconnected', attempt = number(key, 'attempt') + 1 }) })
    redis.call('HSET', key, 'status', 'waiting', 'request', '', 'startedAt', at, 'lastActivityAt', at)
    redis.call('HDEL', key, 'permissions')
    redis.call('HDEL', session, 'lastRequestId')
    return { 'reset', get(session, 'pool'), at + 10000 }
  end
  return { 'failed', 'agent_disconnected',
    fail(id, 'agent_disconnected', 'The agent went away in the middle of its answer and did not come back in time.') }
end
if number(key, 'attempt') == 0 then
  local unavailable = due(number(key, 'startedAt'), tonumber(ARGV[4]))
  if at >= unavailable then
    return { 'failed', 'agent_unavailable',
      fail(id, 'agent_unavailable', 'No agent took the turn within ' .. ARGV[4] .. ' ms.') }
  end
  later = math.min(later, unavailable)
elseif number(key, 'attempt') >= most_attempts(key, ARGV[7]) then
  return { 'failed', 'attempts_exhausted',
    fail(id, 'attempts_exhausted', 'Agents took the turn ' .. get(key, 'attempt') .. ' times and were lost each time.') }
end
return { 'pend', get(session, 'pool'), get(session, 'agent'), math.min(later, at + 10000) }
