package meshtest

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/link/socketio"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Raw is a link that says what a test wants it to, as any holder of the keys could.
type Raw struct {
	t testing.TB
	link.Link
}

// Dial opens a link to a master or node and declares nothing.
func (m *Mesh) Dial(addr string) *Raw {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l, err := socketio.Dial(ctx, addr, socketio.DialConfig{Key: m.Ring.Used(), Logger: Log(m.t, "raw")})
	if err != nil {
		m.t.Fatalf("dial %s: %v", addr, err)
	}
	l.Trust()
	m.t.Cleanup(func() { l.Close(nil) })
	return &Raw{m.t, l}
}

// Serve runs the mesh server of a node that is only pretended, and gives its port.
// Each link to it is handed to accept, which has to bear that it ends at any time: whoever dialled it does so again and
// again, and is in the midst of that when the test ends. See Hears and Tells.
func (m *Mesh) Serve(accept func(*Raw)) (port int) {
	m.t.Helper()
	s, err := socketio.New(socketio.Config{Ring: m.Ring, MaxPayload: wire.DefaultMaxPayload, Logger: Log(m.t, "fake"), Accept: func(ctx context.Context, l link.Link) {
		l.Trust()
		accept(&Raw{m.t, l})
		<-ctx.Done()
	}})
	if err != nil {
		m.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener) }()
	m.t.Cleanup(func() {
		cancel()
		if err := Await(m.t, done, "the pretended node to stop"); err != nil {
			m.t.Errorf("serve: %v", err)
		}
	})
	return listener.Addr().(*net.TCPAddr).Port
}

// Say sends an event.
func (r *Raw) Say(event, body string) {
	r.t.Helper()
	if err := r.say(event, body); err != nil {
		r.t.Fatalf("say %s: %v", event, err)
	}
}

// Tells is Say for a link that may end before: then it reports false.
func (r *Raw) Tells(event, body string) (ok bool) {
	err := r.say(event, body)
	if err != nil && !errors.Is(err, link.ErrClosed) {
		r.t.Errorf("say %s: %v", event, err)
	}
	return err == nil
}

func (r *Raw) say(event, body string) error {
	return r.Send(wire.Message{Event: event, Body: []byte(body)})
}

// Expect gives the body of the next event of that name, and skips others.
func (r *Raw) Expect(event string) string {
	r.t.Helper()
	body, err := r.next(event)
	if err != nil {
		r.t.Fatalf("wait for %s: %v", event, err)
	}
	return body
}

// Hears is Expect for a link that may end before: then it reports false.
func (r *Raw) Hears(event string) (body string, ok bool) {
	body, err := r.next(event)
	if err != nil && !errors.Is(err, link.ErrClosed) {
		r.t.Errorf("wait for %s: %v", event, err)
	}
	return body, err == nil
}

func (r *Raw) next(event string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		msg, err := r.Receive(ctx)
		if err != nil {
			return "", err
		}
		if msg.Event == event {
			return string(msg.Body), nil
		}
	}
}

// ExpectEnd waits until the other side ends the link, and gives the reason.
func (r *Raw) ExpectEnd() error {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		if _, err := r.Receive(ctx); errors.Is(err, link.ErrClosed) {
			return err
		} else if err != nil {
			r.t.Fatalf("wait for the end of the link: %v", err)
		}
	}
}

// Silent fails the test if the event comes within d. A silence can only be waited for.
func (r *Raw) Silent(event string, d time.Duration) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for {
		msg, err := r.Receive(ctx)
		if err != nil {
			return
		}
		if msg.Event == event {
			r.t.Errorf("unexpected %s: %s", event, msg.Body)
		}
	}
}
