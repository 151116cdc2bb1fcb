package main

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/gorilla/websocket"
)

// idLen is how many bytes name a call in front of its payload.
const idLen = 8

var errNoID = errors.New("a message without an id")

// serveHandler serves WebSocket connections, each on a goroutine.
func serveHandler(serve func(*websocket.Conn) error) (endpoint, func(), error) {
	upgrader := websocket.Upgrader{ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10}
	return serveHTTP(func(w http.ResponseWriter, r *http.Request) {
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		_ = serve(ws) // the client sees that it ended
	})
}

func serveHTTP(serve http.HandlerFunc) (endpoint, func(), error) {
	l, err := listen()
	if err != nil {
		return endpoint{}, nil, err
	}
	s := &http.Server{Handler: serve}
	go func() { _ = s.Serve(l) }() // ends with Close
	return endpoint{Addr: l.Addr().String()}, func() { _ = s.Close() }, nil
}

func connectWS(ctx context.Context, e endpoint) (*websocket.Conn, error) {
	dialer := websocket.Dialer{ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10}
	ws, _, err := dialer.DialContext(ctx, "ws://"+e.Addr+"/", nil)
	return ws, err
}

func serveWS(context.Context) (endpoint, func(), error) {
	return serveHandler(func(ws *websocket.Conn) error {
		for {
			kind, message, err := ws.ReadMessage()
			if err != nil {
				return err
			}
			if err := ws.WriteMessage(kind, message); err != nil {
				return err
			}
		}
	})
}

func dialWS(ctx context.Context, e endpoint) (client, error) {
	ws, err := connectWS(ctx, e)
	if err != nil {
		return client{}, err
	}
	var waiting waiting
	go func() {
		for {
			_, message, err := ws.ReadMessage()
			if err != nil || len(message) < idLen {
				return
			}
			waiting.settle(binary.BigEndian.Uint64(message), message[idLen:])
		}
	}()
	return waiting.client(func(_ context.Context, message []byte) error {
		return ws.WriteMessage(websocket.BinaryMessage, message)
	}, func() { _ = ws.Close() }), nil
}

// waiting are the calls in flight of a client.
type waiting struct {
	last atomic.Uint64
	mu   sync.Mutex
	byID map[uint64]chan []byte
}

var answers = sync.Pool{New: func() any { return make(chan []byte, 1) }}

func (w *waiting) add() (uint64, chan []byte) {
	id, answer := w.last.Add(1), answers.Get().(chan []byte)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byID == nil {
		w.byID = make(map[uint64]chan []byte)
	}
	w.byID[id] = answer
	return id, answer
}

func (w *waiting) settle(id uint64, payload []byte) {
	w.mu.Lock()
	answer := w.byID[id]
	delete(w.byID, id)
	w.mu.Unlock()
	if answer != nil {
		answer <- payload
	}
}

func (w *waiting) await(ctx context.Context, answer chan []byte) ([]byte, error) {
	select {
	case payload := <-answer:
		answers.Put(answer)
		return payload, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
