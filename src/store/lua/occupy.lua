-- occupy: give an owner's open streams a place each, or renew it; scored by when it fades (ms of Redis time).
-- KEYS  1 places
-- ARGV  1 limit · 2 life of a place, ms · 3 1: take over the oldest place of a stream that can resume · 4… members
-- gives {how many were refused, the refused …, the displaced …}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local limit = tonumber(ARGV[1])
local ttl = tonumber(ARGV[2])

-- members of streams that can resume begin with `r:` and the time since when they are open, in as many digits
local function oldest()
  local found
  for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    if member:sub(1, 2) == 'r:' and (not found or member < found) then found = member end
  end
  return found
end

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local refused, displaced = {}, {}
for i = 4, #ARGV do
  local member = ARGV[i]
  local room = redis.call('ZSCORE', KEYS[1], member) or redis.call('ZCARD', KEYS[1]) < limit
  if not room and ARGV[3] == '1' then
    local other = oldest()
    if other then
      redis.call('ZREM', KEYS[1], other)
      displaced[#displaced + 1] = other
      room = true
    end
  end
  if room then
    redis.call('ZADD', KEYS[1], now + ttl, member)
  else
    refused[#refused + 1] = member
  end
end
redis.call('PEXPIRE', KEYS[1], ttl)
local answer = { #refused }
for _, member in ipairs(refused) do answer[#answer + 1] = member end
for _, member in ipairs(displaced) do answer[#answer + 1] = member end
return answer
