-- Shared by every script of a session. KEYS[1] is the session's hash; all other keys of the session share its hash tag,
-- hence its slot, and are named from it here: which ones a transition touches (the next queued interaction) is known
-- only inside the transaction.
-- ARGV[1] session TTL, ms · ARGV[2] resume window, ms · ARGV[3…] the script's own.
local session = KEYS[1]
local base = string.sub(session, 1, -8) -- without 'session'
local session_ttl, resume_window = tonumber(ARGV[1]), tonumber(ARGV[2])
local NUDGE_ABOVE = 32768 -- bytes; a larger batch is announced, and read from the log

local function clock()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
local at = clock()

local function interaction_key(id) return base .. 'interaction:' .. id end
local function log_key(id) return base .. 'log:' .. id end
local queue, lease, history = base .. 'queue', base .. 'lease', base .. 'interactions'
local runs, overheard = base .. 'runs', base .. 'overheard'

local function get(key, field) return redis.call('HGET', key, field) or '' end
local function number(key, field) return tonumber(redis.call('HGET', key, field) or '0') end
local function ended(status) return status == 'completed' or status == 'failed' or status == 'cancelled' end

local function wake() redis.call('SPUBLISH', base .. 'wake', '') end

-- Keeps what belongs to a session alive as long as the session; a tenth of the TTL must have passed, so it is cheap.
local function touch()
  if redis.call('PTTL', session) > session_ttl * 0.9 then return end
  redis.call('PEXPIRE', session, session_ttl)
  redis.call('PEXPIRE', history, session_ttl)
  redis.call('PEXPIRE', queue, session_ttl)
  redis.call('PEXPIRE', runs, session_ttl)
  redis.call('PEXPIRE', overheard, session_ttl)
  for _, id in ipairs(redis.call('LRANGE', history, 0, -1)) do
    redis.call('PEXPIRE', interaction_key(id), session_ttl)
    if get(interaction_key(id), 'sealedAt') == '' then redis.call('PEXPIRE', log_key(id), session_ttl) end
  end
end

-- Numbers events, writes them to the log and tells the live channel, with when a replica had the first, ms. Gives the new tip.
local function record(id, events, heard)
  local key, log = interaction_key(id), log_key(id)
  local tip, bytes = number(key, 'tip'), 0
  local first = tip + 1
  for _, event in ipairs(events) do
    tip = tip + 1
    bytes = bytes + #event
    redis.call('XADD', log, tip .. '-0', 'e', event, 't', at)
  end
  redis.call('HSET', key, 'tip', tip)
  redis.call('HINCRBY', key, 'bytes', bytes)
  redis.call('PEXPIRE', log, session_ttl)
  redis.call('PEXPIRE', key, session_ttl)
  local body = bytes > NUDGE_ABOVE and 'null' or '[' .. table.concat(events, ',') .. ']'
  redis.call('SPUBLISH', base .. 'live', '{"interaction":"' .. id .. '","incarnation":"' .. get(key, 'incarnation')
    .. '","first":' .. first .. ',"count":' .. #events .. ',"at":' .. at .. ',"heard":' .. (heard or at)
    .. ',"events":' .. body .. '}')
  return tip
end

-- How often a turn may be handed to agents: once more, at any rate, when its thread was gone.
local function most_attempts(key, limit)
  return math.max(tonumber(limit), (tonumber(string.match(get(key, 'forgottenBy'), '_(%d+)$')) or 0) + 1)
end

-- The permissions that the agent of a turn asks for and has not settled: id → { options, answer? }.
local function permissions(key)
  local text = get(key, 'permissions')
  return text == '' and {} or cjson.decode(text)
end

local function keep_permissions(key, asked)
  if next(asked) then redis.call('HSET', key, 'permissions', cjson.encode(asked))
  else redis.call('HDEL', key, 'permissions') end
end

-- Makes an interaction that has no place yet, and keeps the session's history within its limit.
local function enlist(id, input, metadata, keep, webhook)
  redis.call('HSET', interaction_key(id), 'id', id, 'status', 'queued', 'input', input, 'metadata', metadata,
    'createdAt', at, 'pool', get(session, 'pool'), 'owner', get(session, 'owner'), 'attempt', 0, 'tip', 0, 'agentTip', 0)
  if webhook == '' then webhook = get(session, 'webhook') end
  if webhook ~= '' then redis.call('HSET', interaction_key(id), 'webhook', webhook) end
  redis.call('RPUSH', history, id)
  redis.call('PEXPIRE', history, session_ttl)
  while redis.call('LLEN', history) > tonumber(keep) do
    local old = redis.call('LINDEX', history, 0)
    if not ended(get(interaction_key(old), 'status')) and redis.call('EXISTS', interaction_key(old)) == 1 then break end
    redis.call('LPOP', history)
    for from in string.gmatch(get(interaction_key(old), 'entered'), '%d+') do
      redis.call('LREM', runs, 1, from == '0' and old or old .. '/' .. from)
    end
    redis.call('DEL', interaction_key(old), log_key(old))
  end
end

-- By what the lines and spans of a turn are found: see protocol/trail.ts.
local function keep_trail(id, request_id, traceparent, tracestate)
  local key = interaction_key(id)
  if request_id ~= '' then redis.call('HSET', key, 'requestId', request_id) end
  if traceparent ~= '' then redis.call('HSET', key, 'traceparent', traceparent) end
  if tracestate ~= '' then redis.call('HSET', key, 'tracestate', tracestate) end
end

-- Where an interaction stands in the queue, from 1; 0 when it does not.
local function position(id)
  local found = redis.call('LPOS', queue, id)
  return found and found + 1 or 0
end

-- Into the queue before all that clients wait for; after what people at the agent typed, for that the agent has already.
local function queue_first(id)
  local typed = {}
  for _, other in ipairs(redis.call('LRANGE', queue, 0, -1)) do
    if get(interaction_key(other), 'origin') == '' then break end
    table.insert(typed, 1, redis.call('LPOP', queue))
  end
  redis.call('LPUSH', queue, id, unpack(typed))
  redis.call('PEXPIRE', queue, session_ttl)
end

-- The order in which a session's stream shows its turns: by their start or, for what ended in the queue, by their end.
-- A turn that had stepped back is entered again, as `<id>/<tip>`: its events after that one. `entered` has all its tips.
local function enter(id, tip)
  local key = interaction_key(id)
  local before = get(key, 'entered')
  redis.call('HSET', key, 'entered', before == '' and '0' or before .. ',' .. tip)
  redis.call('RPUSH', runs, before == '' and id or id .. '/' .. tip)
  redis.call('PEXPIRE', runs, session_ttl)
end

-- Gives an interaction the session's one place.
local function start(id)
  enter(id, number(interaction_key(id), 'tip'))
  redis.call('HSET', interaction_key(id), 'status', 'waiting', 'startedAt', at, 'lastActivityAt', at)
  redis.call('HSET', session, 'waitingInteractionId', id, 'requestStartedAt', at, 'updatedAt', at)
  redis.call('HINCRBY', session, 'turns', 1)
end

-- After an end: clears the three waiting fields and starts the next queued turn. Gives its id, or ''.
local function advance()
  redis.call('HDEL', session, 'waitingInteractionId', 'lastRequestId', 'requestStartedAt')
  redis.call('HSET', session, 'updatedAt', at)
  local id = redis.call('LPOP', queue)
  while id do
    if get(interaction_key(id), 'status') == 'queued' then
      start(id)
      record(id, { '{"type":"started"}' })
      return id
    end
    id = redis.call('LPOP', queue)
  end
  return ''
end

-- Makes an interaction final; its last event is in the log already. Gives the next turn's id, or ''. The log lives as
-- long as the session until `seal` has kept the output.
local function close(id, status, code, message)
  local key = interaction_key(id)
  if get(key, 'status') == 'queued' then enter(id, number(key, 'tip') - 1) end
  redis.call('HSET', key, 'status', status, 'endedAt', at)
  redis.call('HDEL', key, 'permissions')
  if code ~= '' then redis.call('HSET', key, 'errorCode', code, 'errorMessage', message) end
  touch()
  local following = ''
  if get(session, 'waitingInteractionId') == id then following = advance() end
  wake()
  return following
end

local function fail(id, code, message)
  record(id, { cjson.encode({ type = 'failed', code = code, message = message }) })
  return close(id, 'failed', code, message)
end

local function cancel(id, reason)
  record(id, { cjson.encode({ type = 'cancelled', reason = reason }) })
  return close(id, 'cancelled', '', '')
end

-- Takes an ended interaction out of the session: what was said goes now, its log in a minute, so that those who read it
-- come to its end. A husk stays as long as the session, so that the same POST made again is still known.
local function forget(id)
  local key = interaction_key(id)
  redis.call('LREM', history, 0, id)
  redis.call('HDEL', key, 'input', 'metadata', 'note', 'output')
  redis.call('HSETNX', key, 'forgottenAt', at)
  redis.call('PEXPIRE', key, math.max(redis.call('PTTL', session), 60000))
  redis.call('PEXPIRE', log_key(id), 60000)
end

-- Redis lost a dispatch in a failover: the word of the lease's holder, which has the turn in hand, restores it. Readers may
-- have seen events that are lost, so the log gets a new incarnation. Gives whether it was so.
local function adopt(id, request, incarnation)
  local key = interaction_key(id)
  local status, attempt = get(key, 'status'), tonumber(string.match(request, '_(%d+)$') or '0')
  if status ~= 'waiting' and status ~= 'streaming' then return false end
  if get(session, 'waitingInteractionId') ~= id or string.sub(request, 5, 41) ~= string.sub(id, 5) then return false end
  if attempt <= number(key, 'attempt') then return false end
  redis.call('HSET', key, 'status', 'waiting', 'request', request, 'attempt', attempt, 'agentTip', 0,
    'dispatchedAt', at, 'lastActivityAt', at, 'incarnation', incarnation)
  redis.call('HDEL', key, 'permissions', 'run') -- what the agent asks now, it says again
  redis.call('HSET', session, 'lastRequestId', request)
  local events = { cjson.encode({ type = 'dispatched', request = request, attempt = attempt, agent = get(session, 'agent') }) }
  if status == 'streaming' then
    table.insert(events, 1, cjson.encode({ type = 'reset', reason = 'agent_disconnected', attempt = attempt }))
  end
  record(id, events)
  return true
end
