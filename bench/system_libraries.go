package main

import (
	"context"
	"encoding/binary"
	"net/http"
	"sync"

	coder "github.com/coder/websocket"
	"github.com/lxzan/gws"
)

// The WebSocket libraries beside gorilla's, doing what nameWS does with that.

func fitsLibraries(l load) bool { return l.InFlight == 1 || l.InFlight == 64 }

// gwsEcho sends back what comes.
type gwsEcho struct{ gws.BuiltinEventHandler }

func (gwsEcho) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	_ = c.WriteMessage(m.Opcode, m.Bytes()) // the client sees that it ended
}

func serveGWS(context.Context) (endpoint, func(), error) {
	upgrader := gws.NewUpgrader(gwsEcho{}, &gws.ServerOption{ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10})
	return serveHTTP(func(w http.ResponseWriter, r *http.Request) {
		if c, err := upgrader.Upgrade(w, r); err == nil {
			c.ReadLoop()
		}
	})
}

// gwsClient settles calls.
type gwsClient struct {
	gws.BuiltinEventHandler
	waiting waiting
}

func (c *gwsClient) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	if b := m.Bytes(); len(b) >= idLen {
		c.waiting.settle(binary.BigEndian.Uint64(b), append([]byte(nil), b[idLen:]...))
	}
}

func dialGWS(_ context.Context, e endpoint) (client, error) {
	h := new(gwsClient)
	c, _, err := gws.NewClient(h, &gws.ClientOption{Addr: "ws://" + e.Addr + "/", ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10})
	if err != nil {
		return client{}, err
	}
	go c.ReadLoop()
	return h.waiting.client(func(_ context.Context, message []byte) error {
		return c.WriteMessage(gws.OpcodeBinary, message)
	}, func() { _ = c.NetConn().Close() }), nil
}

func serveCoder(context.Context) (endpoint, func(), error) {
	return serveHTTP(func(w http.ResponseWriter, r *http.Request) {
		c, err := coder.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	})
}

func dialCoder(ctx context.Context, e endpoint) (client, error) {
	c, _, err := coder.Dial(ctx, "ws://"+e.Addr+"/", nil)
	if err != nil {
		return client{}, err
	}
	c.SetReadLimit(1 << 20)
	w := new(waiting)
	go func() {
		for {
			_, message, err := c.Read(context.Background())
			if err != nil || len(message) < idLen {
				return
			}
			w.settle(binary.BigEndian.Uint64(message), message[idLen:])
		}
	}()
	return w.client(func(ctx context.Context, message []byte) error {
		return c.Write(ctx, coder.MessageBinary, message)
	}, func() { _ = c.CloseNow() }), nil
}

// client sends a message for each call.
func (w *waiting) client(write func(context.Context, []byte) error, closeIt func()) client {
	var writing sync.Mutex
	call := func(ctx context.Context, payload []byte) ([]byte, error) {
		id, answer := w.add()
		message := append(binary.BigEndian.AppendUint64(make([]byte, 0, idLen+len(payload)), id), payload...)
		writing.Lock()
		err := write(ctx, message)
		writing.Unlock()
		if err != nil {
			return nil, err
		}
		return w.await(ctx, answer)
	}
	return client{call, closeIt}
}
