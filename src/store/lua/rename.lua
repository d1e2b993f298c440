-- rename: the session's title. ARGV  3 title · gives {'ok'} · {'gone'}
if redis.call('EXISTS', session) == 0 then return { 'gone' } end
redis.call('HSET', session, 'title', ARGV[3])
return { 'ok' }
