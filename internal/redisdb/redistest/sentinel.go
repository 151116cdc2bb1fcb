package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// sentinelName is what the Sentinel calls what it watches.
const sentinelName = "mesh"

// Sentinel is a server with a replica, both watched by one Sentinel, which makes the replica
// the master when that has been silent for two seconds. On a busy machine it may do so again.
type Sentinel struct {
	t               testing.TB
	Master, Replica *Server // as they begin
	sentinel        *Server
}

// StartSentinel starts all three, and waits until the replica could take over.
func StartSentinel(t testing.TB) *Sentinel {
	t.Helper()
	s := &Sentinel{t: t}
	s.Master = onPort(t, "--repl-diskless-sync-delay", "0")
	s.Replica = onPort(t, "--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1 "+s.Master.port())
	s.sentinel = newServer(t, "tcp", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	conf := filepath.Join(s.sentinel.dir, "sentinel.conf")
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nsentinel monitor %s 127.0.0.1 %s 1\nsentinel down-after-milliseconds %[3]s 2000\nsentinel failover-timeout %[3]s 4000\n",
		s.sentinel.port(), s.sentinel.dir, sentinelName, s.Master.port())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.sentinel.args = []string{s.sentinel.args[0], conf, "--sentinel"}
	s.sentinel.Restart()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the Sentinel says: %s", s.sentinel.said())
		}
	})
	waitFor(t, "the replica to have everything", func() bool {
		return s.Replica.says([]any{"INFO", "replication"}, "master_link_status:up", "master_sync_in_progress:0")
	})
	waitFor(t, "the Sentinel to know the replica", func() bool {
		return s.sentinel.says([]any{"SENTINEL", "REPLICAS", sentinelName}, s.Replica.port(), "master-link-status:ok")
	})
	return s
}

// URL is where it is.
func (s *Sentinel) URL() string {
	return s.sentinel.URL() + "?master_name=" + sentinelName
}

// AwaitFailover waits until the replica has taken over.
func (s *Sentinel) AwaitFailover() {
	s.t.Helper()
	waitFor(s.t, "the replica to take over", func() bool {
		return s.Replica.says([]any{"INFO", "replication"}, "role:master")
	})
}

// AwaitReplica waits until one of the two servers, both of which run, is a replica of the other
// and has what that has: usually the former master, started again.
func (s *Sentinel) AwaitReplica() {
	s.t.Helper()
	waitFor(s.t, "one server to follow the other", func() bool {
		for _, x := range []*Server{s.Master, s.Replica} {
			if x.says([]any{"INFO", "replication"}, "role:slave", "master_link_status:up", "master_sync_in_progress:0") {
				return true
			}
		}
		return false
	})
}
