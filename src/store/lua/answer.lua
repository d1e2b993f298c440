-- answer: a client answers a permission that the agent of a turn asks for. The first answer counts; the agent is told by
-- `deliver` until it has settled the permission.
-- ARGV  3 interaction · 4 permission · 5 option
-- gives {'ok'} stored, now or by an earlier call with the same option · {'answered', option} another answer came first
--       {'unknown'} not asked, or settled by the agent · {'option'} there is no such option · {'ended', status} · {'gone'}
local id, permission, option = ARGV[3], ARGV[4], ARGV[5]
local key = interaction_key(id)
local status = get(key, 'status')
if status == '' then return { 'gone' } end
if ended(status) then return { 'ended', status } end
local asked = permissions(key)
local it = asked[permission]
if not it then return { 'unknown' } end
if it.answer then return it.answer == option and { 'ok' } or { 'answered', it.answer } end
local known = false
for _, each in ipairs(it.options) do known = known or each == option end
if not known then return { 'option' } end
it.answer = option
keep_permissions(key, asked)
redis.call('HSET', key, 'lastActivityAt', at)
record(id, { cjson.encode({ type = 'permission.answered', permission = permission, option = option }) })
wake() -- also when the answer to this call is lost: the agent hears of it
return { 'ok' }
