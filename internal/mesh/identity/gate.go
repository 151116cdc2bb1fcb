package identity

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Gate decides who may appear as which worker. Make one with NewGate. It is safe for
// concurrent use.
type Gate struct {
	verifier *Verifier // nil: no issuer is known
	denied   atomic.Pointer[DenyList]
}

// NewGate checks tokens with v; nil knows no issuer, and then a token that is not
// required is not looked at, and one that is required is refused with ErrNoIssuer.
func NewGate(v *Verifier) *Gate { return &Gate{verifier: v} }

// Checks tells whether the gate knows an issuer, and so can check tokens.
func (g *Gate) Checks() bool { return g.verifier != nil }

// Deny puts another deny list into force; nil denies nobody.
func (g *Gate) Deny(l *DenyList) { g.denied.Store(l) }

// Denied is the deny list in force.
func (g *Gate) Denied() *DenyList { return g.denied.Load() }

// Admit says whether a peer that presents t ("": none) may appear as worker/variant. It
// gives the claims of a checked token, and nil where there was none to check. A token
// that is presented is checked even where none is required. An error wraps one of this
// package's, says what is wrong and may be told to the peer.
func (g *Gate) Admit(now time.Time, t Token, worker, variant string, required bool) (*Claims, error) {
	var c *Claims
	switch {
	case required && g.verifier == nil:
		return nil, ErrNoIssuer
	case required && t == "":
		return nil, ErrMissing
	case t != "" && g.verifier != nil:
		var err error
		if c, err = g.verifier.Verify(t, now); err != nil {
			return nil, err
		}
		if c.Worker != worker {
			return nil, fmt.Errorf("%w: it is for %s, not %s", ErrWorker, c.Name(), worker)
		}
		if c.Variant != "" && c.Variant != variant {
			return nil, fmt.Errorf("%w: it is for %s, not %s/%s", ErrVariant, c.Name(), worker, variant)
		}
	}
	if g.denied.Load().Denies(worker, variant, c) {
		return nil, ErrRevoked
	}
	return c, nil
}
