package native

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"testing"
)

// specCipher is a CipherState of the Noise specification.
type specCipher struct {
	key   []byte
	nonce uint64
}

func (c *specCipher) aead(t *testing.T, nonce uint64) (cipher.AEAD, []byte) {
	t.Helper()
	block, err := aes.NewCipher(c.key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcm, binary.BigEndian.AppendUint64(make([]byte, 4, 12), nonce)
}

func (c *specCipher) seal(t *testing.T, plain, ad []byte) []byte {
	gcm, nonce := c.aead(t, c.nonce)
	c.nonce++
	return gcm.Seal(nil, nonce, plain, ad)
}

func (c *specCipher) rekey(t *testing.T) {
	gcm, nonce := c.aead(t, math.MaxUint64)
	c.key = gcm.Seal(nil, nonce, make([]byte, 32), nil)[:32]
}

// specState is a SymmetricState.
type specState struct {
	chain, hash []byte
	cipher      specCipher
}

func (s *specState) mixHash(data []byte) {
	h := sha256.Sum256(append(bytes.Clone(s.hash), data...))
	s.hash = h[:]
}

// derive is HKDF of the Noise specification.
func (s *specState) derive(input []byte, n int) (out [][]byte) {
	mac := func(key, data []byte) []byte {
		m := hmac.New(sha256.New, key)
		m.Write(data)
		return m.Sum(nil)
	}
	temp := mac(s.chain, input)
	var last []byte
	for i := range n {
		last = mac(temp, append(bytes.Clone(last), byte(i+1)))
		out = append(out, last)
	}
	return out
}

func (s *specState) mixKey(input []byte) {
	out := s.derive(input, 2)
	s.chain, s.cipher = out[0], specCipher{key: out[1]}
}

func (s *specState) sealAndHash(t *testing.T, plain string) []byte {
	sealed := s.cipher.seal(t, []byte(plain), s.hash)
	s.mixHash(sealed)
	return sealed
}

// A second implementation, written from docs/protocol.md and the Noise specification
// alone, writes the bytes of the vectors.
func TestVectorsKeepToTheSpecification(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		t.Helper()
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	expect := func(what string, got []byte, want string) {
		t.Helper()
		if hex.EncodeToString(got) != want {
			t.Fatalf("%s is %x, in the vectors %s", what, got, want)
		}
	}
	private := func(s string) *ecdh.PrivateKey {
		t.Helper()
		k, err := ecdh.X25519().NewPrivateKey(unhex(s))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}

	psk, err := pbkdf2.Key(sha512.New, v.PrivateKey, []byte("meshctl native link 1"), 100_000, 32)
	if err != nil {
		t.Fatal(err)
	}
	expect("the pre-shared key", psk, v.PresharedKey)
	id := hmac.New(sha256.New, psk)
	id.Write([]byte("key id"))
	expect("the key id", id.Sum(nil)[:8], v.KeyID)
	const prologue = "meshctl native link 1\x00/meshctl/native/1"
	expect("the prologue", []byte(prologue), v.Prologue)

	var s specState
	s.hash = []byte("Noise_NNpsk0_25519_AESGCM_SHA256") // as long as a hash
	s.chain = s.hash
	s.mixHash([]byte(prologue))
	out := s.derive(psk, 3)
	s.chain = out[0]
	s.mixHash(out[1])
	s.cipher = specCipher{key: out[2]}

	initiator, responder := private(v.InitiatorEphemeral), private(v.ResponderEphemeral)
	message := func(e *ecdh.PublicKey) []byte {
		s.mixHash(e.Bytes())
		s.mixKey(e.Bytes())
		return bytes.Clone(e.Bytes())
	}
	first := append(id.Sum(nil)[:8:8], message(initiator.PublicKey())...)
	expect("the first message", append(first, s.sealAndHash(t, v.InitiatorHello)...), v.First)
	second := message(responder.PublicKey())
	shared, err := initiator.ECDH(responder.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	s.mixKey(shared)
	expect("the second message", append(second, s.sealAndHash(t, v.ResponderHello)...), v.Second)

	keys := s.derive(nil, 2)
	ends := map[string]*specCipher{"initiator": {key: keys[0]}, "responder": {key: keys[1]}}
	for i, f := range v.Frames {
		plain := unhex(f.Plain)
		expect("frame "+string(rune('0'+i)), ends[f.From].seal(t, plain, nil), f.Sealed)
		for len(plain) > 0 {
			kind := plain[0]
			n, used := binary.Uvarint(plain[1:])
			if used <= 0 || n > uint64(len(plain)-1-used) {
				t.Fatalf("frame %d ends within a record", i)
			}
			if plain = plain[1+used+int(n):]; kind == 9 {
				ends[f.From].rekey(t)
			}
		}
	}
}
