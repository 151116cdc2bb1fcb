package registry_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/registry"
	"github.com/meshctl/meshctl/internal/redisdb/redistest"
)

func key(name string) string { return "meshctl:{mesh:registry}:" + name }

// inRedis waits until Redis names that owner of a node.
func inRedis(t *testing.T, c *redis.Client, name, owner string) {
	t.Helper()
	text := func() string { return c.HGet(t.Context(), key("owners"), name).Val() }
	meshtest.WaitFor(t, func() bool { return strings.HasPrefix(text(), owner) }, func() string { return fmt.Sprintf("the owner of %s to be %s; it is %s", name, owner, text()) })
}

// awaitRenewals waits until a master has twice renewed its lease, and so has done once all that
// it does when it does.
func awaitRenewals(t *testing.T, c *redis.Client, id string) {
	t.Helper()
	until := func() float64 { return c.ZScore(t.Context(), key("leases"), id).Val() }
	for range 2 {
		last := until()
		meshtest.WaitFor(t, func() bool { return until() != last }, func() string { return id + " to renew its lease" })
	}
}

// A node for which somebody without keys names another owner stays its master's.
func TestSharedStolen(t *testing.T) {
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprintf("told=%v", told), func(t *testing.T) {
			server := redistest.Start(t)
			t.Parallel()
			// Longer than this process may stand still.
			short := func(c *registry.SharedConfig) { c.Grace = 4 * time.Second }
			m1, m2 := begin(t, server, "m1", short), begin(t, server, "m2", short)
			a := declared(m1, "a", "c1", 1)
			m1.Put(a)
			m2.awaitView("w/a@m1:c1")
			c := server.Client()
			defer c.Close()
			const thief, record = `{"m":"mx","c":"c","i":"i-a","a":99,"s":0}`, "zz"
			tx := c.TxPipeline()
			tx.HSet(t.Context(), key("nodes"), "w/a", record)
			tx.HSet(t.Context(), key("owners"), "w/a", thief)
			if told {
				rev, _ := c.HGet(t.Context(), key("meta"), "rev").Int64()
				tx.HSet(t.Context(), key("meta"), "rev", rev+1)
				tx.XAdd(t.Context(), &redis.XAddArgs{Stream: key("changes"), Values: []any{"rev", rev + 1, "op", "put", "name", "w/a", "owner", thief, "record", record}})
			}
			if _, err := tx.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			inRedis(t, c, "w/a", `{"m":"m1"`)
			begin(t, server, "m3").awaitView("w/a@m1:c1")
			if gone := append(m1.wasGone(), m2.wasGone()...); len(gone) > 0 {
				t.Errorf("gone: %v", gone)
			}
			m1.Remove(a)
			m2.awaitView("")
		})
	}
}

// Owners that are no such do not keep masters from writing.
func TestSharedMalformedOwners(t *testing.T) {
	server := redistest.Start(t)
	m1, m2 := begin(t, server, "m1"), begin(t, server, "m2")
	c := server.Client()
	defer c.Close()
	want := []string{"w/last@m1:c1"}
	for i, bad := range []string{
		`{"m":"m2","c":"c","i":"i-v00"}`, `{"m":"m2","c":"c","i":""}`, `{"m":{},"c":1,"i":2,"a":"x","s":[]}`, `{"m":null}`, `[]`, `"x"`, `{"c":"c"}`,
		`{"m":"m2","c":"c","i":"i-v07","a":"x","s":"y"}`, `{"m":"m2","c":"c","i":"other","a":1}`, `{"m":"m2","c":"c","i":"i-v09","a":null,"s":null}`, `{`, ``,
	} {
		n := declared(m1, fmt.Sprintf("v%02d", i), "c1", 1)
		m1.Put(n)
		inRedis(t, c, n.Name(), `{"m":"m1"`)
		c.HSet(t.Context(), key("owners"), n.Name(), bad)
		c.HSet(t.Context(), key("owners"), fmt.Sprintf("w/stranger%d", i), bad)
		want = append(want, n.Name()+"@m1:c1")
	}
	for i := range len(want) - 1 {
		inRedis(t, c, fmt.Sprintf("w/v%02d", i), `{"m":"m1"`)
	}
	m1.Put(declared(m1, "last", "c1", 1))
	slices.Sort(want)
	m2.awaitView(strings.Join(want, ", "))
	awaitErr(t, false, m1, m2)
	if gone := append(m1.wasGone(), m2.wasGone()...); len(gone) > 0 {
		t.Errorf("gone: %v", gone)
	}
}

// After the count went back, a node that moves is seen to at once.
func TestSharedMoveAfterCountWentBack(t *testing.T) {
	server := redistest.Start(t)
	never := func(c *registry.SharedConfig) { c.Audit = time.Hour }
	m1, m2 := begin(t, server, "m1", never), begin(t, server, "m2", never)
	for range 5 {
		m1.Put(declared(m1, "b", "c1", 1))
		m1.Put(declared(m1, "a", "c1", 1))
		m2.awaitView("w/a@m1:c1, w/b@m1:c1")
	}
	c := server.Client()
	defer c.Close()
	c.HSet(t.Context(), key("meta"), "rev", 1)
	awaitRenewals(t, c, "m1")
	awaitRenewals(t, c, "m2")
	m2.Put(declared(m2, "a", "c2", 2))
	m1.awaitView("w/a@m2:c2")
}

// Redis goes back to what it was a while ago, as after a failover to a replica that lagged,
// and so quickly that nobody missed it.
func TestSharedOlder(t *testing.T) {
	server := redistest.Start(t)
	short := func(c *registry.SharedConfig) { c.Grace = 10 * time.Second }
	m1, m2 := begin(t, server, "m1", short), begin(t, server, "m2", short)
	leaves, moves := declared(m1, "leaves", "c1", 1), declared(m1, "moves", "c2", 1)
	m1.Put(declared(m1, "stays", "c3", 1))
	m1.Put(leaves)
	m1.Put(moves)
	m2.awaitView("w/leaves@m1:c1, w/moves@m1:c2, w/stays@m1:c3")
	c := server.Client()
	defer c.Close()
	older := map[string]string{}
	for _, name := range []string{"meta", "masters", "leases", "nodes", "owners", "changes"} {
		older[name] = c.Dump(t.Context(), key(name)).Val()
	}
	m1.Remove(leaves)
	m2.Put(declared(m2, "moves", "c4", 2))
	m1.Put(declared(m1, "comes", "c5", 1))
	m1.awaitView("w/moves@m2:c4")
	m2.mu.Lock()
	delete(m2.view, "w/moves") // as a master's own join does
	m2.mu.Unlock()
	m2.awaitView("w/comes@m1:c5, w/stays@m1:c3")

	tx := c.TxPipeline()
	for name, dump := range older {
		tx.RestoreReplace(t.Context(), key(name), 0, dump)
	}
	if _, err := tx.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	m1.Put(declared(m1, "last", "c6", 1))
	m2.awaitView("w/comes@m1:c5, w/last@m1:c6, w/stays@m1:c3")
	m1.awaitView("w/moves@m2:c4")
	inRedis(t, c, "w/moves", `{"m":"m2"`)
	begin(t, server, "m3").awaitView("w/comes@m1:c5, w/last@m1:c6, w/moves@m2:c4, w/stays@m1:c3")
	for _, m := range []*member{m1, m2} {
		for _, name := range m.wasGone() {
			if name != "w/leaves" {
				t.Errorf("%s took %s for gone", m.ID(), name)
			}
		}
	}
}

// logged counts the lines of a log with a text in it.
type logged struct {
	slog.Handler
	text  string
	count atomic.Int32
	line  atomic.Pointer[string] // the last one
}

func (l *logged) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, l.text) {
		l.count.Add(1)
		line := r.Message
		r.Attrs(func(a slog.Attr) bool {
			line += " " + a.String()
			return true
		})
		l.line.Store(&line)
	}
	return l.Handler.Handle(ctx, r)
}

func watched(t *testing.T, text string) (*logged, func(*registry.SharedConfig)) {
	l := &logged{Handler: meshtest.Log(t, "watched").Handler(), text: text}
	return l, func(c *registry.SharedConfig) { c.Logger = slog.New(l) }
}

// Changes that somebody makes up have everything read, and said, once between two renewals.
func TestSharedMadeUpChanges(t *testing.T) {
	server := redistest.Start(t)
	log, watch := watched(t, "reading everything")
	const renew = 500 * time.Millisecond
	m1 := begin(t, server, "m1", watch, func(c *registry.SharedConfig) { c.Lease, c.Renew = time.Minute, renew })
	c := server.Client()
	defer c.Close()
	if err := c.ConfigSet(t.Context(), "appendfsync", "no").Err(); err != nil { // else it depends on the disk how long this takes
		t.Fatal(err)
	}
	began := time.Now()
	const many = 300
	for i := range many {
		if err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: key("changes"), Values: []any{"rev", 1000 + i}}).Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond) // so that they come one by one
	}
	begin(t, server, "m2").Put(declared(m1, "a", "c1", 1))
	meshtest.WaitFor(t, func() bool { return log.count.Load() > 0 }, func() string { return "the gap to be noticed" })
	most := int32(2*time.Since(began)/renew) + 2
	if n := log.count.Load(); n > most || most > many/2 {
		t.Errorf("said %d times in %s, want %d at most", n, time.Since(began), most)
	}
}

// A master that may not read the changes says so once, and knows what there is all the same.
func TestSharedMayNotReadChanges(t *testing.T) {
	server := redistest.Start(t)
	c := server.Client()
	defer c.Close()
	if err := c.Do(t.Context(), "ACL", "SETUSER", "m", "on", ">secret", "~*", "&*", "+@all", "-xread").Err(); err != nil {
		t.Fatal(err)
	}
	log, watch := watched(t, "changes of other masters do not come")
	m1 := begin(t, server, "m1", watch, func(c *registry.SharedConfig) {
		c.URL = strings.Replace(server.URL(), "unix://", "unix://m:secret@", 1)
	})
	m2 := begin(t, server, "m2")
	for i, want := range []string{"w/a@m2:c1", "w/a@m2:c1, w/b@m2:c1"} {
		m2.Put(declared(m2, string(rune('a'+i)), "c1", 1))
		m1.awaitView(want)
	}
	if line := log.line.Load(); line == nil || log.count.Load() != 1 || !strings.Contains(*line, "NOPERM") {
		t.Errorf("said %d times, the last time: %v", log.count.Load(), line)
	}
}
