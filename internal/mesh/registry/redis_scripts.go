package registry

import "github.com/redis/go-redis/v9"

// The scripts, each atomic. All keys are in one slot of a cluster:
//
//	meta     hash: epoch, drawn when the registry begins anew; rev, counts the changes
//	masters  hash, id → sealed Master
//	leases   sorted set, id by when its lease ends (ms)
//	nodes    hash, "worker/variant" → sealed Node
//	owners   hash, "worker/variant" → {m: master, c: client, i: instance, a: attach, s: since, d: drains}
//	changes  stream: rev, op (put, del), name, owner, record
//
// Times are Redis' own, so that the clocks of masters need not agree; since alone is a
// master's, and only decides between two instances that were both there while Redis was not.

// scriptKeys are the keys of every script, in this order.
var scriptKeys = []string{"meta", "masters", "leases", "nodes", "owners", "changes"}

// maxChanges is about how many changes are kept for masters to catch up with.
const maxChanges = "20000"

const luaHead = `
local meta, masters, leases, nodes, owners, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function decoded(text)
  if not text then return nil end
  local ok, v = pcall(cjson.decode, text)
  if ok and type(v) == 'table' and type(v.m) == 'string' and type(v.c) == 'string' and type(v.i) == 'string'
    and type(v.a) == 'number' and type(v.s) == 'number' then return v end
  return nil
end
local function change(op, name, owner, record)
  local rev = redis.call('HINCRBY', meta, 'rev', 1)
  redis.call('XADD', changes, 'MAXLEN', '~', ` + maxChanges + `, '*', 'rev', rev, 'op', op, 'name', name, 'owner', owner, 'record', record)
end
local function del(name, owner)
  redis.call('HDEL', nodes, name); redis.call('HDEL', owners, name)
  change('del', name, owner or '', '')
end
`

// putScript: name, record, owner, "1" when it is said again and not declared just now. It
// gives ok and the number of the change, or lost and the record of who came later.
var putScript = redis.NewScript(luaHead + `
local mine, cur = cjson.decode(ARGV[3]), decoded(redis.call('HGET', owners, ARGV[1]))
if cur then
  local newer = false
  if mine.i ~= '' and cur.i == mine.i then
    newer = cur.a > mine.a
  elseif ARGV[4] == '1' and cur.m ~= mine.m then
    local lease = redis.call('ZSCORE', leases, cur.m)
    newer = lease and tonumber(lease) >= now and cur.s > mine.s
  end
  if newer then return {'lost', redis.call('HGET', nodes, ARGV[1]) or ''} end
end
redis.call('HSET', nodes, ARGV[1], ARGV[2]); redis.call('HSET', owners, ARGV[1], ARGV[3])
change('put', ARGV[1], ARGV[3], ARGV[2])
return {'ok', tonumber(redis.call('HGET', meta, 'rev'))}`)

// removeScript: name, master, client. It gives 1, or 0 when the node is somebody else's.
var removeScript = redis.NewScript(luaHead + `
local text = redis.call('HGET', owners, ARGV[1])
if not text then return 0 end
local cur = decoded(text)
if cur and (cur.m ~= ARGV[2] or cur.c ~= ARGV[3]) then return 0 end
del(ARGV[1], text)
return 1`)

// renewScript: id, lease in ms (0: it ends), grace in ms, sealed Master, a new epoch, and the
// masters that this one is linked to, whose leases it renews as well: they may be cut off
// from Redis alone. It removes masters, and what was declared at them, whose lease ended longer ago than grace.
// It gives epoch, rev, whether the lease had held, the masters, the leases, now.
var renewScript = redis.NewScript(luaHead + `
redis.call('HSETNX', meta, 'epoch', ARGV[5])
local score = redis.call('ZSCORE', leases, ARGV[1])
local held = 0
if score and tonumber(score) >= now then held = 1 end
if ARGV[2] == '0' then
  if score then redis.call('ZADD', leases, now - 1, ARGV[1]) end
else
  redis.call('ZADD', leases, now + ARGV[2], ARGV[1]); redis.call('HSET', masters, ARGV[1], ARGV[4])
  for i = 6, #ARGV do redis.call('ZADD', leases, 'XX', 'GT', now + ARGV[2], ARGV[i]) end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now - ARGV[3])) do
  local all = redis.call('HGETALL', owners)
  for i = 1, #all, 2 do
    local cur = decoded(all[i + 1])
    if not cur or cur.m == id then del(all[i], all[i + 1]) end
  end
  redis.call('ZREM', leases, id); redis.call('HDEL', masters, id)
end
return {redis.call('HGET', meta, 'epoch'), tonumber(redis.call('HGET', meta, 'rev') or '0'), held,
  redis.call('HGETALL', masters), redis.call('ZRANGE', leases, 0, -1, 'WITHSCORES'), now}`)

// mastersScript gives the masters, the leases, now.
var mastersScript = redis.NewScript(luaHead + `
return {redis.call('HGETALL', masters), redis.call('ZRANGE', leases, 0, -1, 'WITHSCORES'), now}`)

// snapshotScript gives epoch, rev, the id of the last change, nodes, owners.
var snapshotScript = redis.NewScript(luaHead + `
local last = redis.call('XREVRANGE', changes, '+', '-', 'COUNT', 1)
local id = '0-0'
if #last > 0 then id = last[1][1] end
return {redis.call('HGET', meta, 'epoch') or '', tonumber(redis.call('HGET', meta, 'rev') or '0'), id,
  redis.call('HGETALL', nodes), redis.call('HGETALL', owners)}`)

// auditScript gives epoch, rev, and the owners that can be read. Whoever was declared at a master
// that has no lease, which takes lost data, is given the time that a master's nodes have whose
// lease ended.
var auditScript = redis.NewScript(luaHead + `
local all, readable = redis.call('HGETALL', owners), {}
for i = 1, #all, 2 do
  local cur = decoded(all[i + 1])
  if cur then
    if not redis.call('ZSCORE', leases, cur.m) then redis.call('ZADD', leases, now, cur.m) end
    readable[#readable + 1] = all[i]; readable[#readable + 1] = all[i + 1]
  end
end
return {redis.call('HGET', meta, 'epoch') or '', tonumber(redis.call('HGET', meta, 'rev') or '0'), readable}`)
