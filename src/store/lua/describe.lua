-- describe: replace the metadata of a session.
-- ARGV  3 metadata, JSON
-- gives {'ok'} · {'gone'}
if redis.call('EXISTS', session) == 0 then return { 'gone' } end
redis.call('HSET', session, 'metadata', ARGV[3], 'updatedAt', at)
return { 'ok' }
