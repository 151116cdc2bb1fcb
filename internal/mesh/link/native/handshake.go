package native

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/seal"
)

const (
	// keyIDLen is how many bytes name the pre-shared key in the first message.
	keyIDLen = len(seal.KeyID{})
	// maxHello bounds what a peer says of itself in the handshake.
	maxHello = 4096
)

// prologue is what both ends have agreed on before the first byte.
var prologue = []byte("meshctl native link 1\x00" + Path)

var suite = noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)

// Hello is what each end says of itself in the handshake, and so cannot be changed or
// taken away by anybody in between.
type Hello struct {
	Name     string `json:"name"`     // "worker/variant"
	Protocol int    `json:"protocol"` // highest version spoken, now 1
}

// ciphers seal and open the frames of an established link.
type ciphers struct{ send, receive *noise.CipherState }

// handshake is one end of Noise NNpsk0:
//
//	-> key id, psk, e, hello
//	<- e, ee, hello
type handshake struct {
	state *noise.HandshakeState
	id    seal.KeyID
	hello []byte
}

func newHandshake(key *seal.Key, hello Hello, initiator bool) (*handshake, error) {
	return newHandshakeFrom(nil, key, hello, initiator)
}

// newHandshakeFrom draws the ephemeral key from random; nil is the system's.
func newHandshakeFrom(random io.Reader, key *seal.Key, hello Hello, initiator bool) (*handshake, error) {
	psk, id, err := key.Native()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(hello)
	if err != nil {
		return nil, fmt.Errorf("encode hello: %w", err)
	}
	if len(text) > maxHello {
		return nil, errors.New("the hello is too long")
	}
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: suite, Random: random, Pattern: noise.HandshakeNN, Initiator: initiator,
		Prologue: prologue, PresharedKey: psk, PresharedKeyPlacement: 0,
	})
	if err != nil {
		return nil, fmt.Errorf("begin the handshake: %w", err)
	}
	return &handshake{state, id, text}, nil
}

// first writes the dialling end's message.
func (h *handshake) first() ([]byte, error) {
	message, _, _, err := h.state.WriteMessage(append([]byte(nil), h.id[:]...), h.hello)
	return message, err
}

// answer reads the first message, which names this handshake's key, and writes the second, which ends the handshake of the
// accepting end. Whoever sent the first message may have recorded it: only a frame that
// can be opened proves that the peer is there and knows the key.
func (h *handshake) answer(message []byte) (reply []byte, peer Hello, c ciphers, err error) {
	if _, err := keyIDOf(message); err != nil {
		return nil, peer, c, err
	}
	text, _, _, err := h.state.ReadMessage(nil, message[keyIDLen:])
	if err != nil {
		return nil, peer, c, fmt.Errorf("handshake: %w", seal.ErrKeyMismatch)
	}
	if peer, err = readHello(text); err != nil {
		return nil, peer, c, err
	}
	reply, toResponder, toInitiator, err := h.state.WriteMessage(nil, h.hello)
	if err != nil {
		return nil, peer, c, fmt.Errorf("handshake: %w", err)
	}
	return reply, peer, ciphers{send: toInitiator, receive: toResponder}, nil
}

// keyIDOf is which key a first message names.
func keyIDOf(first []byte) (seal.KeyID, error) {
	if len(first) < keyIDLen {
		return seal.KeyID{}, fmt.Errorf("%w: short handshake", link.ErrProtocol)
	}
	return seal.KeyID(first[:keyIDLen]), nil
}

// finish reads the second message.
func (h *handshake) finish(message []byte) (peer Hello, c ciphers, err error) {
	text, toResponder, toInitiator, err := h.state.ReadMessage(nil, message)
	if err != nil {
		return peer, c, fmt.Errorf("handshake: %w", seal.ErrKeyMismatch)
	}
	peer, err = readHello(text)
	return peer, ciphers{send: toResponder, receive: toInitiator}, err
}

func readHello(text []byte) (Hello, error) {
	var h Hello
	if len(text) > maxHello || json.Unmarshal(text, &h) != nil || h.Protocol < 1 {
		return h, fmt.Errorf("%w: bad hello", link.ErrProtocol)
	}
	return h, nil
}
