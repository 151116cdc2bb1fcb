package registry_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/registry"
	"github.com/meshctl/meshctl/internal/redisdb/redistest"
)

// awaitErr waits until all of them know everything, or until none does.
func awaitErr(t *testing.T, away bool, all ...*member) {
	t.Helper()
	for _, m := range all {
		meshtest.WaitFor(t, func() bool { return m.Err() != nil == away }, func() string {
			return fmt.Sprintf("%s to find that Redis is away: %v; it says %v", m.ID(), away, m.Err())
		})
	}
}

// In a Redis Cluster masters see each other's nodes, also after the server that has the
// registry was killed.
func TestSharedCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	m1, m2 := begin(t, cluster, "m1"), begin(t, cluster, "m2")
	a, b := declared(m1, "a", "c1", 1), declared(m2, "b", "c2", 1)
	m1.Put(a)
	m2.Put(b)
	m1.awaitView("w/b@m2:c2")
	m2.awaitView("w/a@m1:c1")
	awaitErr(t, false, m1)
	if !m1.Remove(a) {
		t.Error("the removal is uncertain")
	}
	m2.awaitView("")
	if host := m1.Self().Host; host != "127.0.0.1" {
		t.Errorf("m1 is at %q", host)
	}

	server := cluster.Of("meshctl:{mesh:registry}:nodes")
	server.Kill()
	awaitErr(t, true, m1, m2)
	meshtest.WaitFor(t, func() bool { return strings.Contains(fmt.Sprint(m1.Err()), "refused") }, func() string { return fmt.Sprint("the error to say why: ", m1.Err()) })
	m1.Put(declared(m1, "new", "c3", 1))
	server.Restart()
	cluster.AwaitOK()
	awaitErr(t, false, m1, m2)
	m2.awaitView("w/new@m1:c3")
	m1.awaitView("w/b@m2:c2")
	if gone := append(m1.wasGone(), m2.wasGone()...); !slices.Equal(gone, []string{"w/a"}) {
		t.Errorf("gone: %v", gone)
	}
}

// documentedACL is what the documentation has masters be allowed, without the name of the user.
func documentedACL(t *testing.T) []any {
	t.Helper()
	text, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "redis-cli acl setuser masters ")
	rules, _, ended := strings.Cut(strings.ReplaceAll(rest, "\\\n", " "), "\n")
	if !found || !ended {
		t.Fatal("docs/operations.md has no acl setuser")
	}
	var args []any
	for _, rule := range strings.Fields(strings.ReplaceAll(rules, "'", "")) {
		args = append(args, rule)
	}
	return args
}

// What the documentation has masters be allowed is enough, also in a Cluster.
func TestSharedNarrowACL(t *testing.T) {
	cluster := redistest.StartCluster(t)
	for _, s := range cluster.Servers {
		c := s.Client()
		defer c.Close()
		if err := c.Do(t.Context(), append([]any{"ACL", "SETUSER", "masters"}, documentedACL(t)...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	narrow := func(c *registry.SharedConfig) { c.URL = strings.Replace(c.URL, "://", "://masters:PASSWORD@", 1) }
	m1, m2 := begin(t, cluster, "m1", narrow), begin(t, cluster, "m2", narrow)
	a := declared(m2, "a", "c1", 1)
	m2.Put(a)
	m1.awaitView("w/a@m2:c1")
	m2.Remove(a)
	m1.awaitView("")
	m2.Put(a)
	m1.awaitView("w/a@m2:c1")
	m2.end()
	meshtest.WaitFor(t, func() bool { all := m1.Shared.Masters(); return len(all) == 1 && all[0].Lapsed }, func() string { return "the end of m2 to be known" })
	awaitErr(t, false, m1)
}

// With Sentinel, the Redis master is killed and a replica takes over: masters come to the
// same picture again, and nobody was taken for gone.
func TestSharedSentinel(t *testing.T) {
	sentinel := redistest.StartSentinel(t)
	m1, m2 := begin(t, sentinel, "m1"), begin(t, sentinel, "m2")
	a, leaves := declared(m1, "a", "c1", 1), declared(m1, "leaves", "c2", 1)
	m1.Put(a)
	m1.Put(leaves)
	m2.Put(declared(m2, "b", "c3", 1))
	m1.awaitView("w/b@m2:c3")
	m2.awaitView("w/a@m1:c1, w/leaves@m1:c2")
	awaitErr(t, false, m1)
	if !m1.Remove(leaves) {
		t.Error("the removal is uncertain")
	}
	m2.awaitView("w/a@m1:c1")

	sentinel.Master.Kill()
	awaitErr(t, true, m1, m2)
	m1.Put(declared(m1, "new", "c4", 1))
	m2.Put(declared(m2, "a", "c5", 2)) // it moves
	sentinel.AwaitFailover()
	awaitErr(t, false, m1, m2)
	m1.awaitView("w/a@m2:c5, w/b@m2:c3")
	m2.mu.Lock()
	delete(m2.view, "w/a") // as a master's own join does
	m2.mu.Unlock()
	m2.awaitView("w/new@m1:c4")

	sentinel.Master.Restart()
	sentinel.AwaitReplica()
	m2.Put(declared(m2, "last", "c6", 1))
	m1.awaitView("w/a@m2:c5, w/b@m2:c3, w/last@m2:c6")
	begin(t, sentinel, "m3").awaitView("w/a@m2:c5, w/b@m2:c3, w/last@m2:c6, w/new@m1:c4")
	if gone := append(m1.wasGone(), m2.wasGone()...); !slices.Equal(gone, []string{"w/leaves"}) {
		t.Errorf("gone: %v", gone)
	}
}
