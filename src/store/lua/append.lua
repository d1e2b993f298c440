-- append: write what the agent said to the log of its current turn; its last event may be the end of the turn.
-- ARGV  3 interaction · 4 request · 5 epoch · 6 tip the writer knows of (0: none) · 7 agent's number of the first event
--       8 incarnation to use if needed · 9 most events · 10 most bytes of a log · 11 '1' when there is output
--       12 end: '' | 'completed' | 'failed' · 13, 14 error code and message · 15 thread · 16 agent's number of the event
--       that says it · 17 title · 18 usage, JSON · 19 stop reason
--       20 what it says of permissions, JSON: [[agent's number, permission, its options or false: settled], …]
--       21 when the replica had the first of them, ms · 22… the events, encoded ('' where nothing is said)
-- gives {'ok', tip, agent's last event, next turn or ''} · {'rewound', tip, agent's last event} Redis lost a tail: send
--       from there · {'hole', tip, agent's last event} · {'superseded', epoch now} another connection has the session
--       {'ended', status, agent's last event} · {'fenced', request now} another attempt runs · {'full', tip} · {'gone'}
local id, request, first = ARGV[3], ARGV[4], tonumber(ARGV[7])
local key = interaction_key(id)
local status = get(key, 'status')
if status == '' then return { 'gone' } end
if get(key, 'request') ~= request then
  if get(session, 'epoch') ~= ARGV[5] or not adopt(id, request, ARGV[8]) then return { 'fenced', get(key, 'request') } end
  status = 'waiting'
end
local tip, agent_tip = number(key, 'tip'), number(key, 'agentTip')
if ended(status) then return { 'ended', status, agent_tip } end
if get(session, 'epoch') ~= ARGV[5] then return { 'superseded', get(session, 'epoch') } end
if tip < tonumber(ARGV[6]) then
  redis.call('HSET', key, 'incarnation', ARGV[8])
  record(id, {})
  return { 'rewound', tip, agent_tip }
end
if first > agent_tip + 1 then return { 'hole', tip, agent_tip } end

local fresh, bytes, last = {}, number(key, 'bytes'), first - 1
for i = 22, #ARGV do
  last = last + 1
  if last > agent_tip then
    fresh[#fresh + 1] = ARGV[i]
    bytes = bytes + #ARGV[i]
  end
end
if tip + #fresh > tonumber(ARGV[9]) or bytes > tonumber(ARGV[10]) then
  fail(id, 'log_full', 'The answer grew past ' .. ARGV[9] .. ' events or ' .. ARGV[10] .. ' bytes.')
  return { 'full', tip }
end
redis.call('HSET', key, 'lastActivityAt', at)
if #fresh == 0 then return { 'ok', tip, agent_tip, '' } end

if ARGV[11] == '1' and status == 'waiting' then
  redis.call('HSET', key, 'status', 'streaming')
  redis.call('HSETNX', key, 'firstOutputAt', at)
end
if tonumber(ARGV[16]) > agent_tip then redis.call('HSET', session, 'thread', ARGV[15]) end -- else it may be forgotten by now
if ARGV[17] ~= '' then redis.call('HSET', session, 'title', ARGV[17]) end
if ARGV[18] ~= '' then redis.call('HSET', key, 'usage', ARGV[18]) end
if ARGV[20] ~= '' then
  local asked = permissions(key)
  for _, it in ipairs(cjson.decode(ARGV[20])) do
    if it[1] > agent_tip then asked[it[2]] = it[3] and { options = it[3] } or nil end
  end
  keep_permissions(key, asked)
end
redis.call('HSET', key, 'agentTip', last)
tip = record(id, fresh, ARGV[21])
local following = ''
if ARGV[12] ~= '' then
  if ARGV[19] ~= '' then redis.call('HSET', key, 'stopReason', ARGV[19]) end
  following = close(id, ARGV[12], ARGV[13], ARGV[14])
end
return { 'ok', tip, last, following }
