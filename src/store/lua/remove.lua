-- remove: forget a session. What runs or waits is cancelled first; its logs stay a minute, so that open streams end, but
-- nobody new is let in.
-- gives {'ok', agent that held the lease or '', the interactions it had…} · {'gone'}
if redis.call('EXISTS', session) == 0 then return { 'gone' } end
local answer = { 'ok', get(lease, 'agent') }
local waiting = redis.call('LRANGE', queue, 0, -1)
redis.call('DEL', queue) -- first, so that the end of the current turn starts nothing
for _, id in ipairs(waiting) do
  if redis.call('EXISTS', interaction_key(id)) == 1 then cancel(id, 'session_deleted') end
end
local current = get(session, 'waitingInteractionId')
if current ~= '' and redis.call('EXISTS', interaction_key(current)) == 1 then cancel(current, 'session_deleted') end
for _, id in ipairs(redis.call('LRANGE', history, 0, -1)) do
  answer[#answer + 1] = id
  if redis.call('EXISTS', interaction_key(id)) == 1 then redis.call('HSETNX', interaction_key(id), 'forgottenAt', at) end
  redis.call('PEXPIRE', interaction_key(id), 60000)
  redis.call('PEXPIRE', log_key(id), 60000)
end
redis.call('DEL', session, lease, history, runs, overheard)
wake()
redis.call('SPUBLISH', base .. 'live', '{}') -- look: who follows the session finds it gone
return answer
