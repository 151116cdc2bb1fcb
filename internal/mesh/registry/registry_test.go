package registry_test

import (
	"slices"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/registry"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func node(worker, variant, client string) registry.Node {
	return registry.Node{Peer: wire.Peer{Worker: worker, Variant: variant}, ClientID: client}
}

func names(nodes []registry.Node) []string {
	out := []string{}
	for _, n := range nodes {
		out = append(out, n.Name())
	}
	return out
}

func TestMemory(t *testing.T) {
	var m registry.Memory
	for _, n := range []registry.Node{node("b", "2", "c1"), node("a", "1", "c2"), node("b", "1", "c3")} {
		if old := m.Put(n); old != nil {
			t.Errorf("%s replaced %s", n.Name(), old.Name())
		}
	}
	if old := m.Put(node("b", "1", "c4")); old == nil || old.ClientID != "c3" {
		t.Errorf("replaced %+v", old)
	}
	if got := names(m.List()); !slices.Equal(got, []string{"a/1", "b/1", "b/2"}) {
		t.Errorf("list %v", got)
	}
	if got := names(m.OfWorker("b")); !slices.Equal(got, []string{"b/1", "b/2"}) {
		t.Errorf("of b %v", got)
	}
	if _, ok := m.Remove("b", "1", "c3"); ok {
		t.Error("a client that was replaced took the newer one out")
	}
	if n, ok := m.Remove("b", "1", "c4"); !ok || n.ClientID != "c4" {
		t.Errorf("removed %+v, %v", n, ok)
	}
	if _, ok := m.Get("b", "1"); ok {
		t.Error("it is still there")
	}
	if _, ok := m.Remove("x", "1", ""); ok || len(m.OfWorker("x")) != 0 {
		t.Error("somebody unknown was there")
	}
}

func TestInfo(t *testing.T) {
	now := time.UnixMilli(5_000)
	n := registry.Node{
		Peer: wire.Peer{Worker: "w", Variant: "v", IP: "::1", Port: 7, Meshctl: &wire.Extra{Version: "1.2", Native: true}},
		Link: "native", Since: time.UnixMilli(2_000), Draining: true,
	}
	want := wire.NodeInfo{Worker: "w", Variant: "v", IP: "::1", Port: 7, Kind: wire.KindMeshctl, Link: "native", Native: true, Version: "1.2", Since: 2000, UpMillis: 3000, Draining: true}
	if got := n.Info(now); got != want {
		t.Errorf("info %+v, want %+v", got, want)
	}
}
