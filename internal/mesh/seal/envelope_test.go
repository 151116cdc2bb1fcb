package seal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// newEnvelope makes one that derives cheap keys, which only its like can open.
func newEnvelope(t testing.TB, private string) *Envelope {
	t.Helper()
	e := newRealEnvelope(t, private)
	e.rounds = 10
	return e
}

func newRealEnvelope(t testing.TB, private string) *Envelope {
	t.Helper()
	e, err := NewEnvelope(private)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mustSeal(t testing.TB, e *Envelope, plaintext string) string {
	t.Helper()
	sealed, err := e.Seal([]byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func wantOpen(t testing.TB, e *Envelope, sealed, plaintext string) {
	t.Helper()
	got, err := e.Open(context.Background(), sealed, nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != plaintext {
		t.Fatalf("opened %q, want %q", got, plaintext)
	}
}

func wantDerivations(t testing.TB, e *Envelope, want uint64) {
	t.Helper()
	if got := e.Derivations(); got != want {
		t.Fatalf("%d derivations, want %d", got, want)
	}
}

func TestVectors(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/sealed.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct{ Secret, Plaintext, Sealed string }
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) == 0 {
		t.Fatal("no vectors")
	}
	for i, v := range vectors {
		e := newRealEnvelope(t, v.Secret)
		wantOpen(t, e, v.Sealed, v.Plaintext)
		wantOpen(t, e, strings.ToUpper(v.Sealed), v.Plaintext)
		wantDerivations(t, e, 1)
		if i == 0 { // and the other way round
			wantOpen(t, newRealEnvelope(t, v.Secret), mustSeal(t, e, v.Plaintext), v.Plaintext)
		}
		if got := SealedLen(len(v.Plaintext)); got != len(v.Sealed) {
			t.Errorf("vector %d: SealedLen = %d, want %d", i, got, len(v.Sealed))
		}
	}
}

// TestConversation opens what a real JavaScript mesh wrote.
func TestConversation(t *testing.T) {
	t.Parallel()
	f, err := os.Open("../wire/testdata/conversation.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e := newRealEnvelope(t, "randomPrivateKey")
	events := 0
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var packet struct {
			Frame     string
			Plaintext json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &packet); err != nil {
			t.Fatal(err)
		}
		if packet.Plaintext == nil {
			continue
		}
		var event [2]string
		if err := json.Unmarshal([]byte(strings.TrimPrefix(packet.Frame, "2")), &event); err != nil {
			t.Fatal(err)
		}
		wantOpen(t, e, event[1], string(packet.Plaintext))
		events++
	}
	if lines.Err() != nil || events == 0 {
		t.Fatalf("%d events, %v", events, lines.Err())
	}
	wantDerivations(t, e, uint64(events)) // a fresh salt each
}

func TestOneDerivationPerSalt(t *testing.T) {
	t.Parallel()
	a, b := newEnvelope(t, "key"), newEnvelope(t, "key")
	if err := a.Warm(); err != nil {
		t.Fatal(err)
	}
	wantDerivations(t, a, 1)
	seen := make(map[string]bool)
	for i := range 1000 {
		plaintext := strings.Repeat("x", i)
		sealed := mustSeal(t, a, plaintext)
		if len(sealed) != SealedLen(i) || sealed != strings.ToLower(sealed) {
			t.Fatalf("bad form of %d bytes: %.200s", i, sealed)
		}
		iv := sealed[2*saltLen : 2*(saltLen+ivLen)]
		if seen[iv] {
			t.Fatal("iv used twice")
		}
		seen[iv] = true
		wantOpen(t, b, sealed, plaintext)
		wantOpen(t, a, sealed, plaintext)
	}
	wantDerivations(t, a, 1)
	wantDerivations(t, b, 1)

	for i := range 3 { // fresh salts cost one each
		fresh := newEnvelope(t, "key")
		wantOpen(t, b, mustSeal(t, fresh, "{}"), "{}")
		wantDerivations(t, b, uint64(2+i))
	}
}

func TestConcurrentUseDerivesOnce(t *testing.T) {
	t.Parallel()
	a, b := newEnvelope(t, "key"), newEnvelope(t, "key")
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for n := range 20 {
				want := fmt.Sprint(i, n)
				sealed, err := a.Seal([]byte(want))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := b.Open(t.Context(), sealed, nil)
				if err != nil || string(got) != want {
					t.Errorf("opened %q, %v, want %q", got, err, want)
				}
			}
		})
	}
	wg.Wait()
	wantDerivations(t, a, 1)
	wantDerivations(t, b, 1)
}

func TestSealerRenewal(t *testing.T) {
	t.Parallel()
	e := newEnvelope(t, "key")
	e.renewal = 50
	var mu sync.Mutex
	salts := make(map[string]bool)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				sealed, err := e.Seal([]byte("{}"))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := e.Open(t.Context(), sealed, nil); err != nil {
					t.Error(err)
				}
				mu.Lock()
				salts[sealed[:2*saltLen]] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	// 200 messages; those that went on under an old salt make for fewer renewals.
	if n := len(salts); n < 2 || n > 5 {
		t.Errorf("%d salts for 200 messages, want 2 to 5", n)
	}
	wantDerivations(t, e, uint64(len(salts)))
}

func TestTampering(t *testing.T) {
	t.Parallel()
	a, b := newEnvelope(t, "key"), newEnvelope(t, "key")
	sealed := mustSeal(t, a, `{"a":1}`)
	raw, err := hex.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{
		0, saltLen - 1,
		saltLen, saltLen + ivLen - 1,
		saltLen + ivLen, headerLen - 1,
		headerLen, len(raw) - 1,
	} {
		changed := bytes.Clone(raw)
		changed[at] ^= 1
		if _, err := b.Open(t.Context(), hex.EncodeToString(changed), nil); !errors.Is(err, ErrKeyMismatch) {
			t.Errorf("byte %d changed: %v, want ErrKeyMismatch", at, err)
		}
	}
	wantDerivations(t, b, 8) // none of them proved a key
	for _, cut := range []string{sealed[:len(sealed)-2], sealed + "00"} {
		if _, err := b.Open(t.Context(), cut, nil); !errors.Is(err, ErrKeyMismatch) {
			t.Errorf("other length: %v, want ErrKeyMismatch", err)
		}
	}
	if n := b.keys.proven.Len(); n != 0 {
		t.Errorf("%d keys remembered, want none", n)
	}
	if n := len(b.keys.pending); n != 0 {
		t.Errorf("%d derivations pending, want none", n)
	}
	wantOpen(t, b, sealed, `{"a":1}`)
}

func TestMalformedCostsNothing(t *testing.T) {
	t.Parallel()
	e := newEnvelope(t, "key")
	for _, text := range []string{
		"", "00", "zz",
		strings.Repeat("0", SealedLen(0)-2),
		strings.Repeat("0", SealedLen(0)+1),
		strings.Repeat("0", SealedLen(0)-1) + "g",
		"g" + strings.Repeat("0", SealedLen(5)-1),
		strings.Repeat("é", SealedLen(0)/2),
	} {
		if _, err := e.Open(t.Context(), text, nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.20q: %v, want ErrMalformed", text, err)
		}
	}
	wantDerivations(t, e, 0)
}

func TestOtherKey(t *testing.T) {
	t.Parallel()
	a, b := newEnvelope(t, "key"), newEnvelope(t, "another key")
	sealed := mustSeal(t, a, "{}")
	for range 2 { // a key that did not fit is not remembered
		if _, err := b.Open(t.Context(), sealed, nil); !errors.Is(err, ErrKeyMismatch) {
			t.Errorf("%v, want ErrKeyMismatch", err)
		}
	}
	wantDerivations(t, b, 2)
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	reader := newEnvelope(t, "key")
	reader.keys.init(1)
	a, b := newEnvelope(t, "key"), newEnvelope(t, "key")
	for range 2 {
		wantOpen(t, reader, mustSeal(t, a, "{}"), "{}")
		wantOpen(t, reader, mustSeal(t, b, "{}"), "{}")
	}
	wantDerivations(t, reader, 4)
	wantOpen(t, reader, mustSeal(t, b, "{}"), "{}")
	wantDerivations(t, reader, 4)
}

func TestNewEnvelopeRefuses(t *testing.T) {
	t.Parallel()
	for _, private := range []string{"", strings.Repeat("x", MaxKeyLen+1)} {
		if _, err := NewEnvelope(private); err == nil {
			t.Errorf("key of %d bytes accepted", len(private))
		}
	}
}

// FuzzOpen opens hostile texts. The gate refuses, so that only the known salt, which
// the seeds have, gets as far as the cipher and inputs cost no derivation.
func FuzzOpen(f *testing.F) {
	e := newEnvelope(f, "key")
	f.Add(mustSeal(f, e, ""))
	f.Add(mustSeal(f, e, `{"worker":"a"}`))
	f.Add(strings.Repeat("0", SealedLen(3)))
	f.Add("")
	refused := errors.New("refused")
	f.Fuzz(func(t *testing.T, sealed string) {
		plaintext, err := e.Open(t.Context(), sealed, gateFunc(func(context.Context) (func(bool), error) {
			return nil, refused
		}))
		switch {
		case err == nil:
			if SealedLen(len(plaintext)) != len(sealed) {
				t.Errorf("%d bytes of %d characters", len(plaintext), len(sealed))
			}
		case errors.Is(err, ErrMalformed), errors.Is(err, ErrKeyMismatch), errors.Is(err, refused):
		default:
			t.Errorf("untyped error: %v", err)
		}
		if n := e.Derivations(); n != 1 {
			t.Errorf("%d derivations", n)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, size := range []int{200, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			e := newEnvelope(b, "key")
			plaintext := make([]byte, size)
			if err := e.Warm(); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := e.Seal(plaintext); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{200, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			e := newEnvelope(b, "key")
			sealed := mustSeal(b, e, strings.Repeat("x", size))
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := e.Open(context.Background(), sealed, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDerive(b *testing.B) {
	e := newRealEnvelope(b, "key")
	for b.Loop() {
		if _, err := e.derive([saltLen]byte{}); err != nil {
			b.Fatal(err)
		}
	}
}
