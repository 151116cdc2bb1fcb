package interop

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
)

// raw is a Socket.IO connection that says exactly what it is told to. It reports each
// event with its opened plaintext as Message, and "closed".
type raw struct {
	*eventLog
	secret string
	conn   *websocket.Conn
	mu     sync.Mutex // guards writing
}

// dialRaw connects to the namespace / of a server on this machine.
func dialRaw(t testing.TB, name, secret string, port int) *raw {
	t.Helper()
	conn, response, err := websocket.DefaultDialer.Dial(fmt.Sprintf("ws://127.0.0.1:%d/socket.io/?EIO=4&transport=websocket", port), nil)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	response.Body.Close()
	r := &raw{eventLog: newEventLog(t, name), secret: secret, conn: conn}
	go r.read()
	t.Cleanup(func() {
		conn.Close()
		<-r.ended
		if t.Failed() {
			t.Logf("%s:\n%s", r.name, r.eventLog)
		}
	})
	r.write("40")
	r.await("connected")
	return r
}

// write sends one Engine.IO packet.
func (r *raw) write(packet string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.conn.WriteMessage(websocket.TextMessage, []byte(packet)) // reading fails too
}

func (r *raw) read() {
	defer r.end()
	for {
		_, packet, err := r.conn.ReadMessage()
		if err != nil {
			r.add(event{Event: "closed", line: fmt.Sprint("closed: ", err)})
			return
		}
		switch text := string(packet); {
		case text == "2":
			r.write("3")
		case len(text) >= 2 && text[:2] == "40":
			r.add(event{Event: "connected", line: "connected"})
		case text == "41":
			r.add(event{Event: "closed", line: "disconnected by the server"})
		case len(text) >= 2 && text[:2] == "42":
			r.add(r.parse(text[2:]))
		}
	}
}

func (r *raw) parse(arguments string) event {
	var pair []string
	if err := json.Unmarshal([]byte(arguments), &pair); err != nil || len(pair) != 2 {
		return event{Event: "unparsed", line: arguments}
	}
	text, err := unseal(r.secret, pair[1])
	if err != nil {
		return event{Event: "unparsed", line: fmt.Sprintf("%s: %v", pair[0], err)}
	}
	e := event{Event: pair[0], Message: text, line: pair[0] + " " + string(text)}
	if e.Event == "addnode" {
		if err := json.Unmarshal(text, &e.Nodes); err != nil {
			e.Event = "unparsed"
		}
	}
	return e
}

// unseal opens what cryptr 6 sealed. It shares no code with what it tests.
func unseal(secret, sealed string) ([]byte, error) {
	b, err := hex.DecodeString(sealed)
	if err != nil {
		return nil, err
	}
	const salt, iv, tag = 64, 16, 16
	if len(b) < salt+iv+tag {
		return nil, errors.New("too short")
	}
	key, err := pbkdf2.Key(sha512.New, secret, b[:salt], 100_000, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithNonceSize(block, iv)
	if err != nil {
		return nil, err
	}
	text := append(b[salt+iv+tag:len(b):len(b)], b[salt+iv:salt+iv+tag]...)
	return aead.Open(nil, b[salt:salt+iv], text, nil)
}
