package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/native"
	"github.com/meshctl/meshctl/internal/mesh/link/socketio"
	"github.com/meshctl/meshctl/internal/mesh/registry"
	"github.com/meshctl/meshctl/internal/mesh/rpc"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/pause"
)

// Links between masters. Each dials every other one and declares itself there as an operator
// with a ticket: over that link it watches the other's nodes while operators watch here, and
// passes on what operators here want of them.

const (
	// introduction is the time that another master has to hear of this one.
	introduction = 1200 * time.Millisecond
	// redial is the pause before another master is dialled again, longestRedial that after
	// several failures.
	redial        = 500 * time.Millisecond
	longestRedial = 5 * time.Second
	// acquaint is how long another master may take to accept.
	acquaint = 10 * time.Second
)

// otherMaster is another master, while it has a lease.
type otherMaster struct {
	m      *Master
	info   registry.Master
	cancel context.CancelFunc

	link    atomic.Pointer[link.Link] // nil while there is none
	failed  atomic.Bool               // a link was tried in vain, or ended
	pending rpc.Pending               // what this master asked it
}

// meet begins to link to masters that have come, and ends links to those that have gone. mu
// is held.
func (m *Master) meet(all []registry.Master) {
	if m.linking == nil {
		return
	}
	there := make(map[string]registry.Master)
	for _, x := range all {
		if !x.Lapsed && x.Port != 0 {
			there[x.ID] = x
		}
	}
	for id, o := range m.others {
		if x, ok := there[id]; !ok || x.Host != o.info.Host || x.Port != o.info.Port || x.Native != o.info.Native {
			o.cancel()
			delete(m.others, id)
		}
	}
	for id, x := range there {
		if m.others[id] != nil {
			continue
		}
		o := &otherMaster{m: m, info: x}
		var ctx context.Context
		ctx, o.cancel = context.WithCancel(m.linking)
		m.others[id] = o
		m.wg.Go(func() { o.run(ctx) })
	}
}

// keepOthers keeps links to the other masters until ctx ends.
func (m *Master) keepOthers(ctx context.Context) error {
	m.mu.Lock()
	m.linking = ctx
	m.meet(m.shared.Masters())
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.linking = nil
	for _, o := range m.others {
		o.cancel()
	}
	m.mu.Unlock()
	m.wg.Wait()
	return nil
}

// run keeps a link until ctx ends.
func (o *otherMaster) run(ctx context.Context) {
	var told string
	wait := redial
	pause.For(ctx, introduction)
	for ctx.Err() == nil {
		l, err := o.open(ctx)
		if err == nil {
			o.m.log.Info("linked to another master", "master", o.info.ID, "address", o.addr())
			wait = redial
			err = o.keep(ctx, l)
		}
		if ctx.Err() != nil {
			return
		}
		o.failed.Store(true)
		level := slog.LevelDebug
		if text := err.Error(); text != told {
			told, level = text, slog.LevelWarn
		}
		o.m.log.Log(ctx, level, "no link to another master: what only it can tell of its nodes is missing here", "master", o.info.ID, "address", o.addr(), "error", err)
		pause.For(ctx, wait)
		wait = min(2*wait, longestRedial)
	}
}

func (o *otherMaster) addr() string {
	return net.JoinHostPort(o.info.Host, strconv.Itoa(o.info.Port))
}

// open opens a link that may be used.
func (o *otherMaster) open(ctx context.Context) (link.Link, error) {
	l, err := o.dial(ctx)
	if err != nil {
		return nil, err
	}
	if err := o.declare(ctx, l); err != nil {
		l.Close(err)
		return nil, err
	}
	l.Trust()
	return l, nil
}

// keep uses a link until it ends, and gives why it did. When this master uses another key
// than the link lives on, another link takes its place.
func (o *otherMaster) keep(ctx context.Context, l link.Link) error {
	ended := o.use(ctx, l)
	for {
		changed := o.m.ring.Changed()
		if info := l.Info(); info.Transport != native.Transport || info.Key == o.m.ring.Used() {
			select {
			case err := <-ended:
				return err
			case <-changed:
			}
			continue
		}
		next, err := o.open(ctx)
		if err != nil {
			o.m.log.Warn("cannot move the link to another master to the key that this one uses", "master", o.info.ID, "error", err)
			if !pause.For(ctx, redial) {
				return <-ended
			}
			continue
		}
		_ = rpc.Event(l, wire.EventWatch, wire.Watch{})
		before := l
		o.m.wg.Go(func() {
			rpc.Rested(&o.pending, before)
			before.Close(errMoved)
		})
		l, ended = next, o.use(ctx, next)
	}
}

// use makes l the link to send over, and reads it on a goroutine of its own. That gives why
// the link ended.
func (o *otherMaster) use(ctx context.Context, l link.Link) <-chan error {
	m := o.m
	m.mu.Lock()
	o.link.Store(&l)
	o.watch(m.watching.asked)
	m.mu.Unlock()
	ended := make(chan error, 1)
	m.wg.Go(func() {
		err := o.read(ctx, l)
		o.link.CompareAndSwap(&l, nil)
		l.Close(err)
		o.pending.LinkLost(l)
		ended <- err
	})
	return ended
}

func (o *otherMaster) read(ctx context.Context, l link.Link) error {
	for {
		msg, err := l.Receive(ctx)
		if err != nil {
			return err
		}
		switch msg.Event {
		case wire.EventTelemetry:
			o.m.relay(msg.Body)
		case wire.EventResponse:
			if r, err := msg.AsResponse(); err == nil {
				o.pending.Settle(r)
			}
		case wire.EventError:
			if e, err := wire.DecodeErrorMessage(msg.Body); err == nil {
				o.m.log.Warn("another master complains", "master", o.info.ID, "code", e.Code, "reason", e.Message)
			}
		}
	}
}

func (o *otherMaster) dial(ctx context.Context) (link.Link, error) {
	m := o.m
	addr := o.addr()
	if !o.info.Native || m.cfg.Link == link.SocketIO {
		return socketio.Dial(ctx, addr, socketio.DialConfig{TLS: m.clientTLS(o.info.Host), Key: m.ring.Used(), MaxPayload: m.cfg.MaxPayload, Logger: m.log, Heartbeat: m.cfg.Heartbeat})
	}
	return native.Dial(ctx, addr, native.Config{
		TLS: m.clientTLS(o.info.Host), Key: m.ring.Used(), Find: m.ring.ByID, Hello: native.Hello{Name: wire.OperatorWorker + "/" + m.id()},
		MaxPayload: m.cfg.MaxPayload, Logger: m.log, Heartbeat: m.cfg.Heartbeat,
	})
}

// declare introduces this master, and waits until the other accepts it. Whoever else has its
// address now, as after a kill and a new start, is not vouched for under its name.
func (o *otherMaster) declare(ctx context.Context, l link.Link) error {
	self := o.m.shared.Self()
	err := rpc.Event(l, wire.EventDeclare, wire.Declare{Worker: wire.OperatorWorker, Variant: self.ID, Meshctl: &wire.Extra{
		Protocol: wire.ProtocolVersion, Version: self.Version, Native: self.Native, Ticket: self.Ticket,
	}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, acquaint)
	defer cancel()
	for {
		msg, err := l.Receive(ctx)
		if err != nil {
			return err
		}
		switch msg.Event {
		case wire.EventDeclared:
			d, err := wire.DecodeDeclared(msg.Body)
			switch {
			case err != nil:
			case d.Meshctl == nil || d.Variant != self.ID:
				err = fmt.Errorf("no master answers at %s", o.addr())
			case d.Meshctl.Name != "" && d.Meshctl.Name != wire.MasterName(o.info.ID):
				err = fmt.Errorf("another master, %.200s, has its address now", d.Meshctl.Name)
			}
			return err
		case wire.EventError:
			e, err := wire.DecodeErrorMessage(msg.Body)
			if err != nil {
				return err
			}
			return &wire.Error{Code: e.Code, Message: e.Message}
		}
	}
}

var errMoved = errors.New("moved to another key")

// watch asks the other master for its nodes' reports, or for no more.
func (o *otherMaster) watch(on bool) {
	if l := o.link.Load(); l != nil {
		_ = rpc.Event(*l, wire.EventWatch, wire.Watch{On: on})
	}
}

// linked are the IDs of the masters that there is a link to.
func (m *Master) linked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for id, o := range m.others {
		if o.link.Load() != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// links is the link to it, if there is one.
func (o *otherMaster) links() []link.Link {
	if l := o.link.Load(); l != nil {
		return []link.Link{*l}
	}
	return nil
}

// order asks the other master for something that only it can do.
func (o *otherMaster) order(name string, v any) (json.RawMessage, error) {
	l := o.link.Load()
	if l == nil {
		return nil, &wire.Error{Code: wire.CodeUnreachable, Message: fmt.Sprintf("there is no link to the master %s at %s, which would have to do it", o.info.ID, o.addr()), Temporary: true}
	}
	if name == wire.ControlKeys && (*l).Info().Transport != native.Transport {
		return nil, &wire.Error{Code: wire.CodeDenied, Message: "keys travel over native links only, and there is none to the master " + o.info.ID}
	}
	payload, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return order(&o.pending, *l, name, payload)
}

// via is the master that has to be asked about a node, or which is itself meant; nil when
// there is none, or when the question is another master's already. mu is held.
func (m *Master) via(s *session, worker, variant string, node registry.Node) *otherMaster {
	switch {
	case s.master != "":
		return nil
	case worker == wire.MasterWorker:
		return m.others[variant]
	}
	return m.others[node.Master]
}

// askOthers has the other masters report, or not, as operators here wish. mu is held.
func (m *Master) askOthers() {
	w := &m.watching
	wanted := w.operators() > 0
	if wanted == w.asked && !(wanted && w.freshOthers) {
		return
	}
	w.asked, w.freshOthers = wanted, false
	for _, o := range m.others {
		o.watch(wanted)
	}
}
