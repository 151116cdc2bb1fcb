package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestRosterIsRenewedByOneCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r roster
		if _, ok := r.recall("job"); ok {
			t.Error("knows nodes before it was told")
		}
		r.learn([]wire.NodeInfo{
			{Worker: "job", Variant: "a", IP: "10.0.0.1", Port: 1},
			{Worker: "job", Variant: "b", Draining: true},
			{Worker: "job", Variant: "c", Kind: wire.KindMeshctl, Native: true},
		}, time.Now())
		peers, ok := r.recall("job")
		if !ok || len(peers) != 2 || peers[0].Variant != "a" || peers[0].Meshctl != nil || peers[1].Variant != "c" || !peers[1].Meshctl.Native {
			t.Fatalf("recalled %+v, %t", peers, ok)
		}
		if _, ok := r.recall("other"); ok {
			t.Error("takes the absence of a worker for known")
		}
		time.Sleep(rosterAge + 1)
		if _, ok := r.recall("job"); ok {
			t.Error("nobody renews an old list")
		}
		if _, ok := r.recall("job"); !ok {
			t.Error("a second caller renews the list at the same time")
		}
		time.Sleep(rosterAge)
		if _, ok := r.recall("job"); ok {
			t.Error("still uses a list that nobody renewed")
		}
	})
}
