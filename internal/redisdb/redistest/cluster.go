package redistest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

const clusterSlots = 16384

// Cluster is a Redis Cluster of three servers without replicas.
type Cluster struct {
	t       testing.TB
	Servers []*Server
}

// StartCluster starts one, and waits until each of its servers knows where all keys are.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	const count = 3
	// Servers that do not get to know each other in this time never do, and a machine may stand still.
	const patient, usual = "30000", "1000"
	for i := range count {
		s := onPort(t, "--cluster-enabled", "yes", "--cluster-node-timeout", patient)
		slots := []any{"CLUSTER", "ADDSLOTS"}
		for slot := i * clusterSlots / count; slot < (i+1)*clusterSlots/count; slot++ {
			slots = append(slots, slot)
		}
		s.do(slots...)
		s.do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
		for _, other := range c.Servers {
			s.do("CLUSTER", "MEET", "127.0.0.1", other.port())
		}
		c.Servers = append(c.Servers, s)
	}
	c.AwaitOK()
	for _, s := range c.Servers {
		s.do("CONFIG", "SET", "cluster-node-timeout", usual)
		s.args[slices.Index(s.args, patient)] = usual // for when it is started again
	}
	return c
}

// AwaitOK waits until each server says that the whole cluster can be used.
func (c *Cluster) AwaitOK() {
	c.t.Helper()
	for _, s := range c.Servers {
		waitFor(c.t, "the cluster to be whole", func() bool {
			return s.says([]any{"CLUSTER", "INFO"}, "cluster_state:ok", "cluster_known_nodes:3", "cluster_slots_ok:16384")
		})
	}
}

// URL is where it is.
func (c *Cluster) URL() string {
	return c.Servers[0].URL() + "?addr=" + c.Servers[1].addr
}

// Client connects to it. The caller closes it.
func (c *Cluster) Client() *redis.ClusterClient {
	return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{c.Servers[0].addr, c.Servers[1].addr}})
}

// Of is the server that has a key.
func (c *Cluster) Of(key string) *Server {
	c.t.Helper()
	client := c.Client()
	defer client.Close()
	node, err := client.MasterForKey(context.Background(), key)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range c.Servers {
		if strings.HasSuffix(node.Options().Addr, ":"+s.port()) {
			return s
		}
	}
	c.t.Fatal("no server has the key ", key)
	return nil
}
