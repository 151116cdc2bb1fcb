package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/meshctl/meshctl/internal/mesh/seal/kdf"
)

// The format: hex(salt ‖ iv ‖ tag ‖ ciphertext), AES-256-GCM under
// the key that package kdf derives of the private key and salt.
const (
	saltLen   = 64
	ivLen     = 16
	tagLen    = 16
	headerLen = saltLen + ivLen + tagLen
)

const (
	// cachedSalts bounds the derived keys that are remembered, of about 1 KiB each.
	cachedSalts = 4096
	// renewAfter is how many messages one salt seals, far below the 2^32 where
	// random ivs under one key begin to risk a collision.
	renewAfter = 1 << 30
)

var (
	// ErrMalformed says that a text is no sealed message at all.
	ErrMalformed = errors.New("malformed sealed message")
	// ErrKeyMismatch says that a message was sealed with another private key, or changed on its way.
	ErrKeyMismatch = errors.New("sealed with another key")
)

// Gate decides whether a key derivation, which takes tens of milliseconds of a CPU,
// may be spent on a message.
type Gate interface {
	// Admit may block until ctx ends. Unless it fails, done is called once: with ok
	// when the message was opened, without when it was false or ctx ended first.
	Admit(ctx context.Context) (done func(ok bool), err error)
}

// SealedLen is the length of the text that Seal makes of n bytes.
func SealedLen(n int) int { return 2 * (headerLen + n) }

// Envelope seals and opens messages with one private key. It is safe for concurrent use.
//
// Deriving the key of a salt is what costs. An Envelope keeps one salt for what it
// seals, and remembers the keys of the salts that it has opened, so that between
// two of them a key is derived once, not for every message.
type Envelope struct {
	private string
	rounds  int           // fewer in tests only
	running chan struct{} // bounds derivations at once
	derived atomic.Uint64
	renewal uint64 // messages under one salt

	own    atomic.Pointer[sealer]
	making sync.Mutex // held while a sealer is made

	keys      keyCache
	scratches sync.Pool // of *scratch
}

// scratch is the memory of one Seal, kept for the next.
type scratch struct{ raw, text []byte }

// maxScratch is the largest text whose scratch is kept, in bytes.
const maxScratch = 256 << 10

// sealer is the sender's own salt and key.
type sealer struct {
	salt string // in hex
	aead cipher.AEAD
	used atomic.Uint64
}

// NewEnvelope fails only for an empty private key, or one over MaxKeyLen. It derives
// nothing yet.
func NewEnvelope(privateKey string) (*Envelope, error) {
	if privateKey == "" {
		return nil, errors.New("private key is empty")
	}
	if len(privateKey) > MaxKeyLen {
		return nil, fmt.Errorf("private key is longer than %d bytes", MaxKeyLen)
	}
	e := &Envelope{
		private: privateKey,
		rounds:  kdf.Rounds,
		running: make(chan struct{}, runtime.GOMAXPROCS(0)),
		renewal: renewAfter,
	}
	e.keys.init(cachedSalts)
	return e, nil
}

// Warm derives the key that Seal needs, in the calling goroutine, unless that is done.
func (e *Envelope) Warm() error {
	_, err := e.sealer()
	return err
}

// Derivations counts the keys derived so far, its own and those of other salts.
func (e *Envelope) Derivations() uint64 { return e.derived.Load() }

// Seal seals plaintext, which it does not keep. The first call derives a key, as
// Warm does; every 2^30th renews it, during which other calls go on.
func (e *Envelope) Seal(plaintext []byte) (string, error) {
	s, err := e.sealer()
	if err != nil {
		return "", err
	}
	if s.used.Add(1) >= e.renewal {
		if s, err = e.renewed(s); err != nil {
			return "", err
		}
	}
	b, ok := e.scratches.Get().(*scratch)
	if !ok {
		b = new(scratch)
	}
	// The cipher appends the tag, while the format has it in front.
	b.raw = slices.Grow(b.raw[:0], ivLen+len(plaintext)+tagLen)[:ivLen]
	if _, err := rand.Read(b.raw); err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	b.raw = s.aead.Seal(b.raw, b.raw, plaintext, nil)
	end := ivLen + len(plaintext)

	b.text = slices.Grow(b.text[:0], SealedLen(len(plaintext)))
	b.text = append(b.text, s.salt...)
	b.text = hex.AppendEncode(b.text, b.raw[:ivLen])
	b.text = hex.AppendEncode(b.text, b.raw[end:])
	b.text = hex.AppendEncode(b.text, b.raw[ivLen:end])
	sealed := string(b.text)
	if cap(b.text) <= maxScratch {
		e.scratches.Put(b)
	}
	return sealed, nil
}

// Open opens a sealed text. The caller owns the result.
//
// Where a key must be derived first, gate is asked (nil admits), then a free
// processor awaited; both end with ctx. Messages of one salt that are opened at
// the same time share a derivation, which only the first of them is asked for.
// A text that is no sealed message costs no derivation.
//
// Errors wrap ErrMalformed, ErrKeyMismatch, ctx's error or gate's.
func (e *Envelope) Open(ctx context.Context, sealed string, gate Gate) ([]byte, error) {
	if len(sealed) < SealedLen(0) || len(sealed)%2 != 0 {
		return nil, fmt.Errorf("%w: %d characters", ErrMalformed, len(sealed))
	}
	// The tag goes once more behind the ciphertext, where the cipher expects it.
	raw := make([]byte, len(sealed)/2+tagLen)
	n, err := hex.Decode(raw, []byte(sealed))
	if err != nil {
		return nil, fmt.Errorf("%w: not hexadecimal", ErrMalformed)
	}
	copy(raw[n:], raw[saltLen+ivLen:headerLen])

	salt := [saltLen]byte(raw)
	aead, settle, err := e.key(ctx, salt, gate)
	if err != nil {
		return nil, fmt.Errorf("open sealed message: %w", err)
	}
	plaintext, err := aead.Open(raw[headerLen:headerLen], raw[saltLen:saltLen+ivLen], raw[headerLen:], nil)
	if settle != nil {
		settle(err == nil)
	}
	if err != nil {
		return nil, ErrKeyMismatch
	}
	return plaintext, nil
}

// sealer gives the own salt and key, deriving them once.
func (e *Envelope) sealer() (*sealer, error) {
	if s := e.own.Load(); s != nil {
		return s, nil
	}
	e.making.Lock()
	defer e.making.Unlock()
	if s := e.own.Load(); s != nil {
		return s, nil
	}
	return e.newSealer()
}

// renewed replaces a sealer that is used up. One caller does the work; the others keep
// the old one meanwhile, which is harmless with so wide a margin.
func (e *Envelope) renewed(old *sealer) (*sealer, error) {
	if !e.making.TryLock() {
		return old, nil
	}
	defer e.making.Unlock()
	if s := e.own.Load(); s != old {
		return s, nil
	}
	return e.newSealer()
}

// newSealer is called with making held.
func (e *Envelope) newSealer() (*sealer, error) {
	var salt [saltLen]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, fmt.Errorf("draw salt: %w", err)
	}
	e.running <- struct{}{}
	defer func() { <-e.running }()
	aead, err := e.derive(salt)
	if err != nil {
		return nil, err
	}
	e.keys.add(salt, aead) // a process may talk to itself
	s := &sealer{salt: hex.EncodeToString(salt[:]), aead: aead}
	e.own.Store(s)
	return s, nil
}

// derive is called with a place in running.
func (e *Envelope) derive(salt [saltLen]byte) (cipher.AEAD, error) {
	e.derived.Add(1)
	key, err := kdf.Derive(e.private, salt[:], e.rounds)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	aead, err := cipher.NewGCMWithNonceSize(block, ivLen)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return aead, nil
}
