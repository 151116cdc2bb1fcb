package node

import (
	"context"
	"fmt"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/queue"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// sealedTimeout bounds the look through what lies in Redis. It is shorter than an order about keys may take.
const sealedTimeout = 8 * time.Second

// obeyLater carries out an order to remove a key once it is sure that nothing in Redis is sealed with it: nobody
// could read that any more. It reports false where an order needs no such look.
func (n *Node) obeyLater(l link.Link, cmd wire.Command, order wire.KeyOrder) bool {
	store, ok := n.queues.store.(*queue.Redis)
	if !ok || order.Op != wire.KeyRemove || order.Force {
		return false
	}
	n.retiring.Go(func() {
		n.carryOut(l, cmd, order, n.sealedUnder(store, order.Fingerprint))
	})
	return true
}

// sealedUnder gives an error when requests in Redis are sealed with a key, or when that cannot be told.
func (n *Node) sealedUnder(store *queue.Redis, fingerprint string) error {
	if _, err := n.ring.Find(fingerprint); err != nil {
		return nil // it is removed already
	}
	ctx, cancel := context.WithTimeout(n.work, sealedTimeout)
	defer cancel()
	found := ""
	err := store.EachSealed(ctx, func(queue, sealed string) bool {
		if key := n.ring.Opener(ctx, sealed); key != nil && key.Fingerprint() == fingerprint {
			found = queue
		}
		return found == ""
	})
	switch {
	case found != "":
		return &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("requests or dead letters of %s in Redis are sealed with the key, and nobody could read them without it: wait until they are done, or remove them (meshctl queue)", found)}
	case err != nil:
		return &wire.Error{Code: wire.CodeBadRequest, Message: fmt.Sprintf("cannot tell whether something in Redis is sealed with the key: %v", err)}
	}
	return nil
}
