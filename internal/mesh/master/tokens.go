package master

import (
	"errors"
	"fmt"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/native"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// errNoIssuer says that the schema asks for what this master cannot do.
var errNoIssuer = &wire.Error{
	Code: wire.CodeBadRequest, Message: "the schema requires tokens, and this master knows no issuer to check them by",
	Hint: "give it the issuer's public key with --token-issuer FILE",
}

// admit says whether a declared peer may be who it says it is, and notes its token's
// claims. mu is held.
func (m *Master) admit(s *session, peer wire.Peer) *wire.Error {
	var token identity.Token
	if peer.Meshctl != nil {
		token = peer.Meshctl.Token
	}
	claims, err := m.gate.Admit(time.Now(), token, peer.Worker, peer.Variant, m.schema.TokensRequired)
	if err != nil {
		return notAdmitted(peer, err)
	}
	s.claims = claims
	s.stopExpiry()
	if claims != nil {
		s.expiry = time.AfterFunc(time.Until(claims.Until()), func() {
			s.link.Close(s.refuse(notAdmitted(peer, identity.ErrExpired)))
		})
	}
	return nil
}

func notAdmitted(p wire.Peer, err error) *wire.Error {
	message := fmt.Sprintf("%s is not admitted: %v", p.Name(), err)
	if p.Meshctl == nil && errors.Is(err, identity.ErrMissing) {
		message += "; JavaScript nodes cannot have one"
	}
	return &wire.Error{Code: wire.CodeDenied, Message: message}
}

// stopExpiry no longer ends the link when a token expires. m.mu is held.
func (s *session) stopExpiry() {
	if s.expiry != nil {
		s.expiry.Stop()
	}
}

// refuseTransport is why a link of this kind is not taken, or nil.
func (s *session) refuseTransport() *wire.Error {
	if s.m.cfg.Link != link.Native || s.link.Info().Transport == native.Transport {
		return nil
	}
	return &wire.Error{Code: wire.CodeDenied, Message: "this master takes native links only (--require-native): no JavaScript nodes, and no --link socketio"}
}

// expel sends a session away. mu is held.
func (m *Master) expel(s *session, reason error) {
	err := s.refuse(notAdmitted(s.self, reason))
	m.leave(s)
	go s.link.Close(err)
}

// SetDenyList puts another list of who is revoked into force: those on it are sent
// away, and nodes are told of it, which close their links to them. It fails, and the old
// list stays, when it is too large to be sent to nodes beside the schema.
func (m *Master) SetDenyList(l *identity.DenyList) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	entries := l.Entries()
	if size, most := listSize(entries)+len(m.schemaJSON), m.cfg.MaxPayload-schemaEnvelope; size > most {
		return fmt.Errorf("the deny list and the schema have %d bytes; with a maximal payload of %d they may have %d", size, m.cfg.MaxPayload, most)
	}
	m.gate.Deny(l)
	m.denied = entries
	m.policy = m.policyPrint()
	m.tellSelf()
	for _, s := range m.sessions {
		if s.master == "" && l.Denies(s.self.Worker, s.self.Variant, s.claims) {
			m.expel(s, identity.ErrRevoked)
		}
	}
	if entries == nil {
		entries = []string{}
	}
	for _, s := range m.sessions {
		if s.self.Meshctl != nil {
			m.send(s, wire.EventDenied, wire.DenyList{Entries: entries})
		}
	}
	return nil
}

// listSize is what entries take in a message, at most.
func listSize(entries []string) (n int) {
	for _, e := range entries {
		n += len(e) + len(`"",`)
	}
	return n
}
