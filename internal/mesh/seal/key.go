package seal

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/meshctl/meshctl/internal/mesh/seal/kdf"
)

// pskSalt makes the pre-shared key of native links of the private key.
const pskSalt = "meshctl native link 1"

// KeyID names a key in the first message of a native link.
type KeyID [8]byte

// Key is one key of a mesh and what is derived from it, each when it is first needed and
// then kept. It is safe for concurrent use. Printing or logging it shows the fingerprint
// alone, at its price.
type Key struct {
	keys     Keys
	envelope *Envelope
	derived  func() (derived, error)
}

// derived is what one key derivation gives.
type derived struct {
	psk         []byte
	id          KeyID
	fingerprint string
}

// NewKey fails where Keys.Validate does. It derives nothing yet.
func NewKey(keys Keys) (*Key, error) {
	if err := keys.Validate(); err != nil {
		return nil, err
	}
	envelope, err := NewEnvelope(keys.Private)
	if err != nil {
		return nil, err
	}
	return &Key{keys: keys, envelope: envelope, derived: sync.OnceValues(func() (derived, error) { return derive(keys) })}, nil
}

func derive(keys Keys) (derived, error) {
	psk, err := kdf.Derive(keys.Private, []byte(pskSalt), kdf.Rounds)
	if err != nil {
		return derived{}, fmt.Errorf("derive the key of native links: %w", err)
	}
	d := derived{psk: psk}
	copy(d.id[:], keyed(psk, "key id"))
	d.fingerprint = hex.EncodeToString(keyed(psk, "fingerprint\x00"+keys.Public)[:6])
	return d, nil
}

func keyed(psk []byte, text string) []byte {
	mac := hmac.New(sha256.New, psk)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// Keys are the texts that it was made of.
func (k *Key) Keys() Keys { return k.keys }

// Envelope seals and opens messages with it.
func (k *Key) Envelope() *Envelope { return k.envelope }

// Native gives the pre-shared key of native links, which nobody may change, and what
// names it. The first call derives them, which takes tens of milliseconds.
func (k *Key) Native() (psk []byte, id KeyID, err error) {
	d, err := k.derived()
	return d.psk, d.id, err
}

// Fingerprint names the key as Keys.Fingerprint does; what Native derives is enough for it.
func (k *Key) Fingerprint() string {
	d, err := k.derived()
	if err != nil { // only where FIPS 140-only mode refuses a short key
		return "unavailable"
	}
	return d.fingerprint
}

// String shows the fingerprint alone.
func (k *Key) String() string { return "key(" + k.Fingerprint() + ")" }

// Format shows the fingerprint alone, whatever the verb.
func (k *Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue shows the fingerprint alone.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.Fingerprint()) }

// LinkEnvelope seals and opens the messages of one link that somebody else opened, under
// the key of a ring that its first message turns out to be sealed with. It is safe for
// concurrent use.
type LinkEnvelope struct {
	ring *Ring
	mu   sync.Mutex
	key  *Key // nil until a message was opened
}

// Key is the key of the link, nil before its first message was opened.
func (l *LinkEnvelope) Key() *Key {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.key
}

// Seal is Envelope.Seal with the key of the link, or with the used one while it has none.
func (l *LinkEnvelope) Seal(plaintext []byte) (string, error) {
	if k := l.Key(); k != nil {
		return k.envelope.Seal(plaintext)
	}
	return l.ring.Seal(plaintext)
}

// Open is Envelope.Open. Until a message was opened it tries the keys of the ring, the
// used one first; gate is asked for each.
func (l *LinkEnvelope) Open(ctx context.Context, sealed string, gate Gate) ([]byte, error) {
	if k := l.Key(); k != nil {
		return k.envelope.Open(ctx, sealed, gate)
	}
	plaintext, k, err := l.ring.open(ctx, sealed, gate)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.key == nil {
		l.key = k
	}
	return plaintext, nil
}
