package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"runtime"
	"sync"

	"github.com/gorilla/websocket"
)

// The yardstick: what a WebSocket can do when calls are gathered into one sealed frame,
// with none of the work that a mesh does for a call.

// sealer seals frames with a counter as the nonce. Client and server use different
// keys: a nonce is never used twice with one key.
type sealer struct {
	aead  cipher.AEAD
	count uint64
}

func newSealer(direction byte) (*sealer, error) {
	key := make([]byte, 32)
	key[0] = direction
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &sealer{aead: aead}, err
}

func (s *sealer) nonce() []byte {
	nonce := make([]byte, s.aead.NonceSize())
	s.count++
	binary.BigEndian.PutUint64(nonce[4:], s.count)
	return nonce
}

func (s *sealer) seal(dst, plain []byte) []byte { return s.aead.Seal(dst, s.nonce(), plain, nil) }
func (s *sealer) open(sealed []byte) ([]byte, error) {
	return s.aead.Open(make([]byte, 0, len(sealed)), s.nonce(), sealed, nil)
}

// A frame is a row of calls: id, length, payload.
const batchHeader = idLen + 4

func appendCall(dst []byte, id uint64, payload []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, id)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(payload)))
	return append(dst, payload...)
}

func eachCall(frame []byte, do func(id uint64, payload []byte)) error {
	for len(frame) > 0 {
		if len(frame) < batchHeader {
			return errNoID
		}
		n := int(binary.BigEndian.Uint32(frame[idLen:]))
		if n > len(frame)-batchHeader {
			return errNoID
		}
		do(binary.BigEndian.Uint64(frame), frame[batchHeader:batchHeader+n])
		frame = frame[batchHeader+n:]
	}
	return nil
}

// serveBatched answers all calls of a frame with one frame.
func serveBatched(context.Context) (endpoint, func(), error) {
	return serveHandler(func(ws *websocket.Conn) error {
		in, err := newSealer(1)
		if err != nil {
			return err
		}
		out, err := newSealer(2)
		if err != nil {
			return err
		}
		var batch, sealed []byte
		for {
			_, message, err := ws.ReadMessage()
			if err != nil {
				return err
			}
			frame, err := in.open(message)
			if err != nil {
				return err
			}
			batch = batch[:0]
			if err := eachCall(frame, func(id uint64, payload []byte) { batch = appendCall(batch, id, payload) }); err != nil {
				return err
			}
			sealed = out.seal(sealed[:0], batch)
			if err := ws.WriteMessage(websocket.BinaryMessage, sealed); err != nil {
				return err
			}
		}
	})
}

func dialBatched(ctx context.Context, e endpoint) (client, error) {
	ws, err := connectWS(ctx, e)
	if err != nil {
		return client{}, err
	}
	in, err := newSealer(2)
	if err != nil {
		return client{}, err
	}
	out, err := newSealer(1)
	if err != nil {
		return client{}, err
	}
	var calls waiting
	go func() {
		for {
			_, message, err := ws.ReadMessage()
			if err != nil {
				return
			}
			frame, err := in.open(message)
			if err != nil || eachCall(frame, calls.settle) != nil {
				return
			}
		}
	}()
	var (
		mu     sync.Mutex
		queued []byte
		wake   = make(chan struct{}, 1)
	)
	writer, stop := context.WithCancel(ctx)
	go func() {
		var batch, sealed []byte
		for {
			select {
			case <-wake:
			case <-writer.Done():
				return
			}
			runtime.Gosched() // callers that are ready add theirs
			mu.Lock()
			batch, queued = queued, batch[:0]
			mu.Unlock()
			sealed = out.seal(sealed[:0], batch)
			if ws.WriteMessage(websocket.BinaryMessage, sealed) != nil {
				return
			}
		}
	}()
	call := func(ctx context.Context, payload []byte) ([]byte, error) {
		id, answer := calls.add()
		mu.Lock()
		queued = appendCall(queued, id, payload)
		mu.Unlock()
		select {
		case wake <- struct{}{}:
		default:
		}
		return calls.await(ctx, answer)
	}
	return client{call, func() { stop(); _ = ws.Close() }}, nil
}
