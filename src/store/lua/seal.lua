-- seal: keep the final output with the interaction, beyond the life of its log. The resume window begins here: before it
-- the log is the only place where the output is.
-- Of an ephemeral or forgotten interaction nothing is kept.
-- ARGV  3 interaction · 4 output, JSON
-- gives {'ok'} · {'sealed'} somebody did it before · {'gone'} · {'running'}
local key = interaction_key(ARGV[3])
local status = get(key, 'status')
if status == '' then return { 'gone' } end
if not ended(status) then return { 'running' } end
if get(key, 'sealedAt') ~= '' then return { 'sealed' } end
if get(key, 'ephemeral') == '1' or get(key, 'forgottenAt') ~= '' then
  redis.call('HSET', key, 'sealedAt', at)
  forget(ARGV[3])
  return { 'ok' }
end
redis.call('HSET', key, 'output', ARGV[4], 'sealedAt', at)
redis.call('PEXPIRE', key, math.max(redis.call('PTTL', session), 60000))
if redis.call('EXISTS', session) == 1 then redis.call('PEXPIRE', log_key(ARGV[3]), resume_window) end
return { 'ok' }
