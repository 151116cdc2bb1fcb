package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/native"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

const (
	// tokenWarning is how long before its token expires a node begins to warn.
	tokenWarning = 24 * time.Hour
	// tokenLook is how often a node looks at its token; the file may be renewed.
	tokenLook = time.Hour
)

// credentials is what we tell of ourselves to one who may see our token.
func (c *core) credentials() *wire.Extra {
	x := *c.self.Meshctl
	if c.cfg.Token == nil {
		return &x
	}
	token, err := c.cfg.Token()
	if err != nil {
		c.log.Error("cannot read this node's token; going on without", "error", err)
	}
	x.Token = token
	return &x
}

// tokensRequired tells whether the master's schema or our own requires tokens: a master
// cannot do away with what this node was given.
func (c *core) tokensRequired() bool {
	s := c.access.Load()
	return c.cfg.Schema != nil && c.cfg.Schema.TokensRequired || s != nil && s.TokensRequired
}

// admit says whether a peer may be who it says it is, and gives the claims of its token.
func (c *core) admit(p wire.Peer) (*identity.Claims, *wire.Error) {
	var token identity.Token
	if p.Meshctl != nil {
		token = p.Meshctl.Token
	}
	required := c.tokensRequired()
	if c.self.Worker == wire.OperatorWorker && !c.gate.Checks() {
		required = false // the command line may do without the issuer's key
	}
	claims, err := c.gate.Admit(time.Now(), token, p.Worker, p.Variant, required)
	if err != nil {
		return nil, notAdmitted(p, err)
	}
	return claims, nil
}

func notAdmitted(p wire.Peer, err error) *wire.Error {
	e := &wire.Error{Code: wire.CodeDenied, Message: fmt.Sprintf("%s is not admitted: %v", p.Name(), err)}
	switch {
	case errors.Is(err, identity.ErrNoIssuer):
		e.Hint = "give this node the issuer's public key with --token-issuer FILE"
	case p.Meshctl == nil && errors.Is(err, identity.ErrMissing):
		e.Message += "; JavaScript nodes cannot have one"
	}
	return e
}

// disallowed is why a link that is up has to go: what it was admitted by no longer
// holds. It is nil where the link may stay.
func (c *core) disallowed(l *peerLink) *wire.Error {
	operator := c.self.Worker == wire.OperatorWorker
	switch {
	case c.gate.Denied().Denies(l.peer.Worker, l.peer.Variant, l.claims):
		return notAdmitted(l.peer, identity.ErrRevoked)
	case l.claims == nil && c.tokensRequired() && (!operator || c.gate.Checks()):
		return notAdmitted(l.peer, identity.ErrMissing)
	}
	return nil
}

// endWithToken ends a link when its peer's token expires, unless stopped before.
func (c *core) endWithToken(l *peerLink) (stop func() bool) {
	if l.claims == nil {
		return func() bool { return true }
	}
	return time.AfterFunc(time.Until(l.claims.Until()), func() {
		l.Close(c.refuse(l, notAdmitted(l.peer, identity.ErrExpired)))
	}).Stop
}

// refuseTransport is why a link of this kind is not taken, or nil.
func (c *core) refuseTransport(l link.Link) *wire.Error {
	if c.cfg.Link != link.Native || l.Info().Transport == native.Transport {
		return nil
	}
	return &wire.Error{Code: wire.CodeDenied, Message: "this node takes native links only (--require-native): no JavaScript nodes, and no --link socketio"}
}

// mayDial says why a peer that the master named cannot be dialled, or nil.
func (c *core) mayDial(to wire.Peer) *wire.Error {
	switch {
	case c.cfg.Link == link.Native && (to.Meshctl == nil || !to.Meshctl.Native):
		return &wire.Error{
			Code: wire.CodeDenied, Message: to.Name() + " serves no native links, and this end takes no others",
			Hint: "replace it by a meshctl node without --link socketio, or leave --require-native away",
		}
	case to.Meshctl == nil && c.tokensRequired():
		return notAdmitted(to, identity.ErrMissing)
	}
	return nil
}

// takeDenied puts the deny list of a meshctl master into force.
func (c *core) takeDenied(entries []string) {
	l, err := identity.NewDenyList(entries)
	if err != nil {
		c.log.Error("cannot read the master's deny list; the former one stays", "error", err)
		return
	}
	c.gate.Deny(l)
}

// mayCallCommand tells whether a peer that may call us may call this command: both
// the schema in force and our own have a say.
func (c *core) mayCallCommand(worker, command string) bool {
	if own := c.ownCommand(command); own != nil && !own.AllowsCaller(worker) {
		return false
	}
	if s := c.access.Load(); s != nil {
		if cmd, ok := s.Lookup(c.self.Worker, command); ok {
			return cmd.AllowsCaller(worker)
		}
	}
	return true
}

// watchToken warns when our own token is about to expire, until ctx ends.
func (n *Node) watchToken(ctx context.Context) {
	if n.cfg.Token == nil {
		return
	}
	for warned := ""; ; {
		wait := tokenLook
		token, err := n.cfg.Token()
		var c *identity.Claims
		if err == nil && token != "" {
			c, err = identity.Inspect(token)
		}
		switch {
		case err != nil:
			n.log.Error("this node's token cannot be read", "error", err)
		case c != nil:
			if left := time.Until(c.Expires); left > tokenWarning {
				wait = min(wait, left-tokenWarning)
			} else if warned != c.ID {
				warned = c.ID
				n.log.Warn("this node's token expires soon: its links end then", "id", c.ID, "expires", c.Expires, "hint", "issue another with meshctl token issue and replace the file; no restart is needed")
			}
		}
		if !pause.For(ctx, wait) {
			return
		}
	}
}

// enforceIdentity closes the link if it has to go, and tells whether it does.
func (n *Node) enforceIdentity(l *peerLink) bool {
	e := n.disallowed(l)
	if e == nil {
		return false
	}
	n.log.Warn("closing a link", "peer", l.peer.Name(), "reason", e.Message)
	_ = rpc.Event(l, wire.EventError, wire.ErrorMessage{Message: e.Message, Code: e.Code})
	go l.Close(e)
	return true
}
