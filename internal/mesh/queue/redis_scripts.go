package queue

import "github.com/redis/go-redis/v9"

// The scripts, each atomic. Keys are those of one queue, all in one slot of a cluster:
//
//	jobs    stream of what waits and is being worked on: id, r (the sealed record), and new
//	        where it was not there before
//	at      hash, id → entry in jobs, or "later": what is in the queue, and where
//	tries   hash, id → how many tries were begun
//	again   set of ids whose earlier try has no known end
//	err     hash, id → sealed error of the last try
//	later   sorted set, id by the time (ms) of its next try; held: hash, id → r
//	dead    sorted set, id by when it died (ms); dead-r: hash, id → r
//	conf    hash: max_depth; by, who said so; closed, when it takes nothing
//
// Times are Redis' own, so that the clocks of nodes need not agree.
//
// The order of writes in a script matters. A redis-server that is killed while it appends a
// transaction to its file leaves the part that it had written there when it starts again, and carries that out
// when it starts once more, behind a client's back (mended in Valkey by valkey-io/valkey#4342). So an item
// is first written where it goes to, then at says so, and only then it goes from where it was; and
// what is not where at says is no item. What such a part adds to jobs may stand before what was given out since,
// where nobody would find it but for adoptScript.

const luaNow = `local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)
`

// luaOurs ends a script when another has the entry now. jobs; group, consumer, entry.
const luaOurs = `local p = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if #p == 0 or p[1][2] ~= ARGV[2] then return 0 end
`

// boundScript: conf; max depth, who says so. Its two writes are a transaction in Redis' file, which ends one that was
// cut off there: what is noted from now on would go with that.
var boundScript = redis.NewScript(`
redis.call('HSET', KEYS[1], 'max_depth', ARGV[1]); redis.call('HSET', KEYS[1], 'by', ARGV[2])
return 1`)

// addScript: jobs, at, later, conf, key; group, id, r, max depth ("0": conf's), default depth,
// window in ms ("0": no key). An item that is there is sent again: the client of a cluster does
// so when a connection breaks before the answer.
var addScript = redis.NewScript(`
local there = redis.call('HGET', KEYS[2], ARGV[2])
if there then return {'ok', there, 0} end
if ARGV[6] ~= '0' then
  local had = redis.call('GET', KEYS[5])
  if had == ARGV[2] then return {'ok', '', 0} end
  if had then return {'dup', had, redis.call('HEXISTS', KEYS[2], had)} end
end
if redis.call('HEXISTS', KEYS[4], 'closed') == 1 then return {'closed', '', 0} end
local max = tonumber(ARGV[4])
if max == 0 then max = tonumber(redis.call('HGET', KEYS[4], 'max_depth') or ARGV[5]) end
local running = 0
local p = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if type(p) == 'table' and not p.err then running = p[1] end
local depth = redis.call('XLEN', KEYS[1]) + redis.call('ZCARD', KEYS[3]) - running
if depth >= max then return {'full', tostring(depth), 0} end
local entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[2], 'r', ARGV[3], 'new', '1')
redis.call('HSET', KEYS[2], ARGV[2], entry)
if ARGV[6] ~= '0' then redis.call('SET', KEYS[5], ARGV[2], 'PX', ARGV[6]) end
return {'ok', entry, 0}`)

// beginScript: jobs, at, tries, again, key; group, entry, id, claimed, window in ms ("0": not a new
// item, or one without a key). It gives the number of the try, 1 when the item is redelivered, and for how
// many ms the entry has been there; or 0 when it is gone, 1 when that is because another one with its key was
// accepted (then it was not, as nobody was told that it is stored), and 0. Where there is none its key is noted, if that was cut off.
var beginScript = redis.NewScript(luaNow + `
local id, entry = ARGV[3], ARGV[2]
local gone, twin = redis.call('HGET', KEYS[2], id) ~= entry, 0
local tries = tonumber(redis.call('HGET', KEYS[3], id) or '0')
local age = now - string.match(entry, '^%d+')
local left = ARGV[5] - age
if not gone and tries == 0 and ARGV[5] ~= '0' and left > 0 then
  local had = redis.call('GET', KEYS[5])
  if not had then
    redis.call('SET', KEYS[5], id, 'PX', left)
  elseif had ~= id then
    gone, twin = true, 1
    redis.call('HDEL', KEYS[2], id)
  end
end
if gone then
  redis.call('XDEL', KEYS[1], entry)
  redis.call('XACK', KEYS[1], ARGV[1], entry)
  return {0, twin, 0}
end
if ARGV[4] == '1' and tries > 0 then redis.call('SADD', KEYS[4], id) end
return {redis.call('HINCRBY', KEYS[3], id, 1), redis.call('SISMEMBER', KEYS[4], id), age}`)

// endScript: jobs, at, tries, again, err, later, held, dead, dead-r; group, entry, id, what
// becomes of it (done, retry, dead), r, sealed error, pause in ms, most dead letters. It gives
// 1, or 0 when somebody else has the item, or has ended it in another way; and the dead letter that it has
// dropped. It may be asked again, where its answer was lost.
var endScript = redis.NewScript(luaNow + `
local entry, id = ARGV[2], ARGV[3]
local at, is, oldest = redis.call('HGET', KEYS[2], id), 'done', ''
local ours = #redis.pcall('XPENDING', KEYS[1], ARGV[1], entry, entry, 1) > 0
if ours and at == entry then
  if ARGV[4] == 'retry' then
    redis.call('HSET', KEYS[5], id, ARGV[6])
    redis.call('HSET', KEYS[7], id, ARGV[5])
    redis.call('ZADD', KEYS[6], now + ARGV[7], id)
    redis.call('HSET', KEYS[2], id, 'later')
  elseif ARGV[4] == 'dead' then
    redis.call('HSET', KEYS[5], id, ARGV[6])
    redis.call('HSET', KEYS[9], id, ARGV[5])
    redis.call('ZADD', KEYS[8], now, id)
    redis.call('HDEL', KEYS[2], id)
    if redis.call('ZCARD', KEYS[8]) > tonumber(ARGV[8]) then
      oldest = redis.call('ZRANGE', KEYS[8], 0, 0)[1]
      redis.call('HDEL', KEYS[9], oldest); redis.call('HDEL', KEYS[5], oldest)
      redis.call('HDEL', KEYS[3], oldest); redis.call('SREM', KEYS[4], oldest)
      redis.call('ZREM', KEYS[8], oldest)
    end
  else
    redis.call('ZREM', KEYS[8], id); redis.call('HDEL', KEYS[9], id) -- of a dead retry that was cut off
    redis.call('HDEL', KEYS[2], id)
    redis.call('HDEL', KEYS[3], id); redis.call('SREM', KEYS[4], id); redis.call('HDEL', KEYS[5], id)
  end
  is = ARGV[4]
elseif redis.call('ZSCORE', KEYS[8], id) then is = 'dead'
elseif at then is = at == 'later' and 'retry' or 'taken' end
if ours then
  redis.call('XDEL', KEYS[1], entry)
  redis.call('XACK', KEYS[1], ARGV[1], entry)
end
return {is == ARGV[4] and 1 or 0, oldest}`)

// handBackScript: jobs, tries, again; group, consumer, entry, id, begun. Whoever looks next
// for abandoned work finds it at once. It gives 0 when another has the item now.
var handBackScript = redis.NewScript(luaOurs + `
if ARGV[5] == '1' then
  redis.call('SADD', KEYS[3], ARGV[4])
  redis.call('HINCRBY', KEYS[2], ARGV[4], -1)
end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', 86400000, 'JUSTID')
return 1`)

// renewScript: jobs; group, consumer, entry. It gives 0 when another has the item now.
var renewScript = redis.NewScript(luaOurs + `
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'JUSTID')
return 1`)

// adoptScript: jobs; group, consumer. What stands before the last that was given out, but was not given out
// itself, counts as abandoned then.
var adoptScript = redis.NewScript(`
local last
for _, g in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local about = {}
  for i = 1, #g, 2 do about[g[i]] = g[i + 1] end
  if about['name'] == ARGV[1] then last = about['last-delivered-id'] end
end
if not last then return 0 end
local n = 0
local function adopt(from, to)
  for _, e in ipairs(redis.call('XRANGE', KEYS[1], from, to, 'COUNT', 100)) do
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, e[1], 'IDLE', 86400000, 'FORCE', 'JUSTID')
    n = n + 1
  end
end
local from, given = '-', redis.call('XPENDING', KEYS[1], ARGV[1], '-', last, 1000)
for _, p in ipairs(given) do
  adopt(from, '(' .. p[1])
  from = '(' .. p[1]
end
if #given < 1000 then adopt(from, last) end
return n`)

// promoteScript: jobs, at, later, held. What is due goes to the end of the queue. It gives the
// ms until the next is, -1 when none is.
var promoteScript = redis.NewScript(luaNow + `
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 100)) do
  local r = redis.call('HGET', KEYS[4], id)
  if r and redis.call('HGET', KEYS[2], id) == 'later' then
    redis.call('HSET', KEYS[2], id, redis.call('XADD', KEYS[1], '*', 'id', id, 'r', r))
  end
  redis.call('HDEL', KEYS[4], id); redis.call('ZREM', KEYS[3], id)
end
local next = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
if #next == 0 then return -1 end
return math.max(0, math.ceil(tonumber(next[2]) - now))`)

// withdrawScript: jobs, at, tries, again, err, later, held; group, id, 1: also one that somebody was given.
// It gives the record of an item that waited, and has removed it.
var withdrawScript = redis.NewScript(`
local entry = redis.call('HGET', KEYS[2], ARGV[2])
if not entry then return false end
local r
if entry == 'later' then
  r = redis.call('HGET', KEYS[7], ARGV[2])
else
  local p = redis.pcall('XPENDING', KEYS[1], ARGV[1], entry, entry, 1)
  if type(p) == 'table' and not p.err and #p > 0 and ARGV[3] ~= '1' then return false end
  local e = redis.call('XRANGE', KEYS[1], entry, entry)
  if #e > 0 then r = e[1][2][4] end
end
redis.call('HDEL', KEYS[2], ARGV[2]); redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('SREM', KEYS[4], ARGV[2]); redis.call('HDEL', KEYS[5], ARGV[2])
if entry == 'later' then
  redis.call('ZREM', KEYS[6], ARGV[2]); redis.call('HDEL', KEYS[7], ARGV[2])
else
  redis.call('XDEL', KEYS[1], entry)
  if ARGV[3] == '1' then redis.call('XACK', KEYS[1], ARGV[1], entry) end
end
return r or ''`)

// deadScript: jobs, at, tries, again, err, dead, dead-r; id, what becomes of it (retry or gone).
var deadScript = redis.NewScript(`
if not redis.call('ZSCORE', KEYS[6], ARGV[1]) then return 0 end
local r = redis.call('HGET', KEYS[7], ARGV[1])
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then
  redis.call('HDEL', KEYS[3], ARGV[1])
  if ARGV[2] == 'retry' and r then
    redis.call('HSET', KEYS[2], ARGV[1], redis.call('XADD', KEYS[1], '*', 'id', ARGV[1], 'r', r))
  else
    redis.call('SREM', KEYS[4], ARGV[1])
  end
end
redis.call('HDEL', KEYS[5], ARGV[1]); redis.call('HDEL', KEYS[7], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
return 1`)
