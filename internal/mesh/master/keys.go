package master

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/native"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const (
	// maxOrders is how many orders that take their time are carried out at once.
	maxOrders = 64
	// orderTimeout is how long another peer may take to carry one out: it writes a file.
	orderTimeout = 15 * time.Second
	// formerTime is how long a node may keep the link that it moved away from.
	formerTime = time.Minute
)

// orders are the orders that are under way.
type orders struct {
	wg    sync.WaitGroup
	count atomic.Int32
}

// orderKeys carries out an operator's order about the master's keys, or passes it to the
// peer that it names. It does not wait.
func (s *session) orderKeys(cmd wire.Command) error {
	if err := s.mayOrder(); err != nil {
		return s.reply(cmd, nil, err)
	}
	return s.later(cmd, func() (json.RawMessage, func(), error) {
		order, err := wire.DecodeKeyOrder(cmd.Payload)
		if err != nil {
			return nil, nil, err
		}
		if order.Peer != "" && order.Peer != s.m.name() {
			result, err := s.passOn(order)
			return result, nil, err
		}
		result, doomed, err := s.m.obey(order)
		return result, func() {
			for _, l := range doomed {
				go l.Close(rpc.ErrKeyRemoved)
			}
		}, err
	})
}

// reply answers a request, with a result or an error.
func (s *session) reply(cmd wire.Command, result json.RawMessage, err error) error {
	answer := wire.Response{UID: cmd.UID, Number: cmd.Number, Name: cmd.Name, Result: result}
	if err != nil {
		answer.Result, answer.Err = nil, rpc.AsError(err)
	}
	return s.link.Send(wire.ResponseMessage(answer))
}

// later answers a request with what work gives, on a goroutine of its own, and then does
// what else that gives, if anything.
func (s *session) later(cmd wire.Command, work func() (json.RawMessage, func(), error)) error {
	o := &s.m.orders
	if o.count.Add(1) > maxOrders {
		o.count.Add(-1)
		return s.reply(cmd, nil, &wire.Error{Code: wire.CodeOverloaded, Message: fmt.Sprintf("%d orders are under way already", maxOrders), Temporary: true})
	}
	o.wg.Go(func() {
		defer o.count.Add(-1)
		result, then, err := work()
		_ = s.reply(cmd, result, err)
		if then != nil {
			then()
		}
	})
	return nil
}

// mayOrder fails unless the session is an operator's that may see and change keys.
func (s *session) mayOrder() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	switch {
	case !s.operator():
		return &wire.Error{Code: wire.CodeDenied, Message: "only an operator changes keys"}
	case s.m.schema.TokensRequired && s.claims == nil && s.master == "":
		return &wire.Error{Code: wire.CodeDenied, Message: "only an operator with a token changes keys"}
	case s.link.Info().Transport != native.Transport:
		return &wire.Error{Code: wire.CodeDenied, Message: "keys travel over native links only"}
	}
	return nil
}

// obey carries out an order about the master's own keys.
func (m *Master) obey(o wire.KeyOrder) (json.RawMessage, []link.Link, error) {
	m.mu.Lock()
	var links []link.Link
	javaScripts := 0
	for _, s := range m.sessions {
		links = append(links, s.link)
	}
	for _, o := range m.others {
		links = append(links, o.links()...)
	}
	for _, n := range m.nodes.List() { // also those of other masters: all change or none
		if n.Meshctl == nil {
			javaScripts++
		}
	}
	m.mu.Unlock()
	if o.Op == wire.KeyUse && javaScripts > 0 {
		return nil, nil, javaScriptsStay(javaScripts)
	}
	return rpc.ObeyKeys(m.ring, o, links, m.log)
}

// javaScriptsStay is why a mesh with JavaScript nodes keeps its key.
func javaScriptsStay(n int) *wire.Error {
	return &wire.Error{
		Code:    wire.CodeDenied,
		Message: fmt.Sprintf("%d JavaScript nodes are connected, which know one key only and end when they meet another", n),
	}
}

// passOn has a node, or another master, carry out an order.
func (s *session) passOn(o wire.KeyOrder) (json.RawMessage, error) {
	m := s.m
	worker, variant, _ := strings.Cut(o.Peer, "/")
	m.mu.Lock()
	node, _ := m.nodes.Get(worker, variant)
	to := m.sessions[node.ClientID]
	if via := m.via(s, worker, variant, node); to == nil && via != nil {
		m.mu.Unlock()
		if worker == wire.MasterWorker {
			o.Peer = ""
		}
		return via.order(wire.ControlKeys, o)
	}
	var failure *wire.Error
	switch {
	case to == nil:
		failure = &wire.Error{Code: wire.CodeNoVariant, Message: o.Peer + " is not connected to the master"}
	case javaScript(to):
		failure = &wire.Error{Code: wire.CodeDenied, Message: o.Peer + " is a JavaScript node: it has one key, in its own configuration"}
	case to.link.Info().Transport != native.Transport:
		failure = &wire.Error{Code: wire.CodeDenied, Message: o.Peer + " is not connected by a native link (--link socketio): its keys file has to be replaced by hand"}
	}
	m.mu.Unlock()
	if failure != nil {
		return nil, failure
	}
	o.Peer = ""
	payload, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return order(&to.pending, to.link, wire.ControlKeys, payload)
}

// order asks a peer for something, and waits for its answer.
func order(p *rpc.Pending, l link.Link, name string, payload json.RawMessage) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(context.Background(), orderTimeout)
	defer cancel()
	return p.Do(ctx, l, rpc.Request{UID: uuid.NewString(), Name: name, Payload: payload})
}

// refuseKey is why a peer under this key is not taken in, or nil. A JavaScript node has to
// have the key that meshctl nodes dial it with: it ends when it meets another.
func (m *Master) refuseKey(s *session, peer wire.Peer) *wire.Error {
	if k := s.link.Info().Key; peer.Meshctl != nil || k == m.ring.Used() {
		return nil
	}
	return &wire.Error{Code: wire.CodeDenied, Message: fmt.Sprintf("the mesh uses the key %s, and %s another, which only meshctl nodes may still have", m.ring.Used().Fingerprint(), peer.Name())}
}

// movedTo tells whether the node declared itself again only to move to another key. It then
// closes this link by itself when it has its answers. m.mu is held.
func (s *session) movedTo(now *session) bool {
	if now == nil || s.link.Info().Key == now.link.Info().Key {
		return false
	}
	s.self, s.former = wire.Peer{}, true
	s.stopExpiry()
	s.expiry = time.AfterFunc(formerTime, func() { s.link.Close(errReplaced) })
	return true
}
