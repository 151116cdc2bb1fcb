package node

import (
	"context"

	"github.com/meshctl/meshctl/internal/mesh/route"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// linked reaches the variants that a node has links to.
type linked struct{ *core }

func (n linked) all(_ context.Context, worker string, sel route.Selection) ([]target, *wire.Error) {
	var targets []target
	for _, p := range n.peers.ring(worker).All() {
		if sel.Has(p.variant) {
			targets = append(targets, targetOf(p))
		}
	}
	return targets, nil
}

func targetOf(p *peer) target {
	return target{worker: p.worker, variant: p.variant, peer: p}
}
