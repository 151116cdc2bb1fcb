package seal

import (
	"context"
	"crypto/cipher"
	"sync"

	"github.com/golang/groupcache/lru"
)

// keyCache remembers the keys of salts. Only keys that opened a message are
// remembered, so that nobody without the private key can push them out.
type keyCache struct {
	mu      sync.Mutex
	proven  *lru.Cache // [saltLen]byte → cipher.AEAD
	pending map[[saltLen]byte]*derivation
}

// derivation is a key that is being derived, or was and still has to prove right.
// aead stays nil if whoever began it was not admitted or gave up.
type derivation struct {
	ready chan struct{} // closed when aead is set or never will be
	aead  cipher.AEAD
}

func (c *keyCache) init(limit int) {
	c.proven = lru.New(limit)
	c.pending = make(map[[saltLen]byte]*derivation)
}

func (c *keyCache) add(salt [saltLen]byte, aead cipher.AEAD) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proven.Add(salt, aead)
}

// find gives a proven key; else the derivation to wait for; else one that the
// caller has to lead, and to end with drop.
func (c *keyCache) find(salt [saltLen]byte) (aead cipher.AEAD, d *derivation, lead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.proven.Get(salt); ok {
		return v.(cipher.AEAD), nil, false
	}
	if d, ok := c.pending[salt]; ok {
		return nil, d, false
	}
	d = &derivation{ready: make(chan struct{})}
	c.pending[salt] = d
	return nil, d, true
}

// drop ends a derivation; its key is remembered if it was proven.
func (c *keyCache) drop(salt [saltLen]byte, d *derivation, proven bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, salt)
	if proven {
		c.proven.Add(salt, d.aead)
	}
}

// key gives the key of a salt. Unless the function is nil, the caller has to call it with
// whether the key opened its message.
func (e *Envelope) key(ctx context.Context, salt [saltLen]byte, gate Gate) (cipher.AEAD, func(ok bool), error) {
	for {
		aead, d, lead := e.keys.find(salt)
		switch {
		case aead != nil:
			return aead, nil, nil
		case lead:
			return e.lead(ctx, salt, gate, d)
		}
		select {
		case <-d.ready:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		if d.aead != nil {
			// Whoever began may have had a false message; this one counts as well.
			return d.aead, func(ok bool) {
				if ok {
					e.keys.add(salt, d.aead)
				}
			}, nil
		}
		// That the other was not admitted, or gave up, says nothing of this message.
	}
}

// lead derives the key of d for all that wait for it.
func (e *Envelope) lead(ctx context.Context, salt [saltLen]byte, gate Gate, d *derivation) (cipher.AEAD, func(ok bool), error) {
	done := func(bool) {}
	defer func() {
		if d.aead == nil { // failed, or the gate panicked
			e.keys.drop(salt, d, false)
			done(false)
		}
		close(d.ready)
	}()
	if gate != nil {
		admitted, err := gate.Admit(ctx)
		if err != nil {
			return nil, nil, err
		}
		done = admitted
	}
	select {
	case e.running <- struct{}{}:
		defer func() { <-e.running }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if err := ctx.Err(); err != nil { // both may have been ready
		return nil, nil, err
	}
	aead, err := e.derive(salt)
	if err != nil {
		return nil, nil, err
	}
	d.aead = aead
	return aead, func(ok bool) {
		e.keys.drop(salt, d, ok)
		done(ok)
	}, nil
}
