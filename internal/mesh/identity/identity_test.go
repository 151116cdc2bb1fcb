package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// now is when the tests take place.
var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) (*Key, *Verifier) {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	return key, v
}

func issue(t testing.TB, key *Key, worker, variant string, ttl time.Duration) (Token, *Claims) {
	t.Helper()
	token, claims, err := key.Issue(worker, variant, ttl, now)
	if err != nil {
		t.Fatal(err)
	}
	return token, claims
}

func TestIssueAndVerify(t *testing.T) {
	key, v := newKey(t)
	for _, tc := range []struct{ worker, variant string }{{"billing", "b1"}, {"billing", ""}, {Operator, ""}} {
		token, issued := issue(t, key, tc.worker, tc.variant, time.Hour)
		got, err := v.Verify(token, now)
		if err != nil {
			t.Fatalf("%v: %v", tc, err)
		}
		if *got != *issued || got.Worker != tc.worker || got.Variant != tc.variant || got.ID == "" || !got.Expires.Equal(now.Add(time.Hour)) {
			t.Errorf("claims %+v, issued %+v", got, issued)
		}
		seen, err := Inspect(token)
		if err != nil || *seen != *issued {
			t.Errorf("inspect: %+v, %v", seen, err)
		}
	}
	a, _ := issue(t, key, "billing", "", time.Hour)
	b, _ := issue(t, key, "billing", "", time.Hour)
	if a == b {
		t.Error("two tokens have the same id")
	}
}

func TestIssueRefuses(t *testing.T) {
	key, _ := newKey(t)
	for name, issue := range map[string]func() error{
		"worker":  func() error { _, _, err := key.Issue("a b", "", time.Hour, now); return err },
		"nobody":  func() error { _, _, err := key.Issue("", "", time.Hour, now); return err },
		"no time": func() error { _, _, err := key.Issue("a", "", 0, now); return err },
		"forever": func() error { _, _, err := key.Issue("a", "", MaxTTL+1, now); return err },
		"variant": func() error { _, _, err := key.Issue("a", strings.Repeat("v", 129), time.Hour, now); return err },
	} {
		if issue() == nil {
			t.Errorf("%s: issued", name)
		}
	}
}

// forge makes a token of any header and body, signed by sign or not at all.
func forge(t testing.TB, header, body map[string]any, sign func(text string) []byte) Token {
	t.Helper()
	part := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	text := part(header) + "." + part(body)
	var signature []byte
	if sign != nil {
		signature = sign(text)
	}
	return Token(text + "." + base64.RawURLEncoding.EncodeToString(signature))
}

// Every way to get past the check that is known of JSON Web Tokens, and what it gives.
func TestAttacks(t *testing.T) {
	key, v := newKey(t)
	foreign, _ := newKey(t)
	public := key.private.Public().(ed25519.PublicKey)
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	ours := func(text string) []byte { return ed25519.Sign(key.private, []byte(text)) }
	theirs := func(text string) []byte { return ed25519.Sign(foreign.private, []byte(text)) }
	hmac := func(secret []byte) func(string) []byte {
		return func(text string) []byte {
			s, err := jwt.SigningMethodHS256.Sign(text, secret)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	eddsa := map[string]any{"alg": "EdDSA", "typ": "JWT"}
	body := func(change ...any) map[string]any {
		b := map[string]any{
			"iss": key.Issuer(), "sub": "billing", "jti": "id-1",
			"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		}
		for i := 0; i < len(change); i += 2 {
			if change[i+1] == nil {
				delete(b, change[i].(string))
			} else {
				b[change[i].(string)] = change[i+1]
			}
		}
		return b
	}
	if _, err := v.Verify(forge(t, eddsa, body(), ours), now); err != nil {
		t.Fatalf("what the attacks start from is refused: %v", err)
	}
	good, _ := issue(t, key, "billing", "", time.Hour)
	parts := strings.Split(string(good), ".")
	other, _ := issue(t, key, "admin", "", time.Hour)
	spliced := Token(parts[0] + "." + strings.Split(string(other), ".")[1] + "." + parts[2])
	for _, tc := range []struct {
		name  string
		token Token
		want  error
	}{
		{"expired", forge(t, eddsa, body("exp", now.Add(-Leeway-time.Second).Unix()), ours), ErrExpired},
		{"not yet valid", forge(t, eddsa, body("nbf", now.Add(Leeway+time.Second).Unix()), ours), ErrNotYet},
		{"issued in the future", forge(t, eddsa, body("iat", now.Add(time.Hour).Unix()), ours), ErrNotYet},
		{"foreign key, own name", forge(t, eddsa, body("iss", foreign.Issuer()), theirs), ErrIssuer},
		{"foreign key, our name", forge(t, eddsa, body(), theirs), ErrSignature},
		{"alg none", forge(t, map[string]any{"alg": "none"}, body(), nil), ErrAlgorithm},
		{"alg NONE", forge(t, map[string]any{"alg": "NONE"}, body(), nil), ErrAlgorithm},
		{"alg empty", forge(t, map[string]any{"alg": ""}, body(), nil), ErrAlgorithm},
		{"no alg", forge(t, map[string]any{"typ": "JWT"}, body(), ours), ErrAlgorithm},
		{"no signature", forge(t, eddsa, body(), nil), ErrSignature},
		{"HS256 by the public key", forge(t, map[string]any{"alg": "HS256"}, body(), hmac(public)), ErrAlgorithm},
		{"HS256 by the public key's DER", forge(t, map[string]any{"alg": "HS256"}, body(), hmac(spki)), ErrAlgorithm},
		{"HS256 by the public key's PEM", forge(t, map[string]any{"alg": "HS256"}, body(), hmac(publicPEM)), ErrAlgorithm},
		{"EdDSA by HMAC", forge(t, eddsa, body(), hmac(public)), ErrSignature},
		{"key in the header", forge(t, map[string]any{"alg": "EdDSA", "jwk": map[string]any{"kty": "OKP"}}, body(), ours), ErrMalformed},
		{"critical extension", forge(t, map[string]any{"alg": "EdDSA", "crit": []string{"x"}, "x": 1}, body(), ours), ErrMalformed},
		{"other body under a signature", spliced, ErrSignature},
		{"cut signature", good[:len(good)-2], ErrSignature},
		{"padded", good + "=", ErrMalformed},
		{"fourth part", good + ".x", ErrMalformed},
		{"no exp", forge(t, eddsa, body("exp", nil), ours), ErrMalformed},
		{"no nbf", forge(t, eddsa, body("nbf", nil), ours), ErrMalformed},
		{"no iat", forge(t, eddsa, body("iat", nil), ours), ErrMalformed},
		{"no jti", forge(t, eddsa, body("jti", nil), ours), ErrMalformed},
		{"no sub", forge(t, eddsa, body("sub", nil), ours), ErrMalformed},
		{"no iss", forge(t, eddsa, body("iss", nil), ours), ErrIssuer},
		{"valid for too long", forge(t, eddsa, body("exp", now.Add(MaxTTL+time.Hour).Unix()), ours), ErrMalformed},
		{"exp as text", forge(t, eddsa, body("exp", "tomorrow"), ours), ErrMalformed},
		{"garbage", "garbage", ErrMalformed},
		{"dots", "..", ErrMalformed},
		{"NUL", "\x00.\x00.\x00", ErrMalformed},
		{"oversized", Token(strings.Repeat("a", MaxLen+1)), ErrMalformed},
		{"oversized, signed", forge(t, eddsa, body("pad", strings.Repeat("a", MaxLen)), ours), ErrMalformed},
	} {
		c, err := v.Verify(tc.token, now)
		if !errors.Is(err, tc.want) || c != nil {
			t.Errorf("%s: %v, %v; want %v", tc.name, c, err, tc.want)
			continue
		}
		if tc.token != "" && strings.Contains(err.Error(), string(tc.token)) {
			t.Errorf("%s: the error quotes the token: %v", tc.name, err)
		}
	}
}

func TestClocksMayDiffer(t *testing.T) {
	key, v := newKey(t)
	token, c := issue(t, key, "billing", "", time.Hour)
	for at, ok := range map[time.Time]bool{
		now.Add(-Leeway):                    true,
		now.Add(-Leeway - time.Second):      false,
		c.Expires.Add(Leeway - time.Second): true,
		c.Until():                           false,
	} {
		if _, err := v.Verify(token, at); (err == nil) != ok {
			t.Errorf("at %s: %v, want accepted %t", at, err, ok)
		}
	}
}

func TestAdmit(t *testing.T) {
	key, v := newKey(t)
	any, anyClaims := issue(t, key, "billing", "", time.Hour)
	one, _ := issue(t, key, "billing", "b1", time.Hour)
	operator, _ := issue(t, key, Operator, "", time.Hour)
	old, _, err := key.Issue("billing", "", time.Minute, now.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name            string
		token           Token
		worker, variant string
		required        bool
		deny            []string
		want            error
	}{
		{name: "none, none required", worker: "billing", variant: "b1"},
		{name: "missing", worker: "billing", variant: "b1", required: true, want: ErrMissing},
		{name: "missing operator", worker: Operator, variant: "o", required: true, want: ErrMissing},
		{name: "every variant", token: any, worker: "billing", variant: "b7", required: true},
		{name: "the variant", token: one, worker: "billing", variant: "b1", required: true},
		{name: "wrong variant", token: one, worker: "billing", variant: "b2", required: true, want: ErrVariant},
		{name: "wrong worker", token: any, worker: "admin", variant: "b1", required: true, want: ErrWorker},
		{name: "worker as operator", token: any, worker: Operator, variant: "o", required: true, want: ErrWorker},
		{name: "operator as worker", token: operator, worker: "billing", variant: "b1", required: true, want: ErrWorker},
		{name: "presented, not required, wrong", token: any, worker: "admin", variant: "b1", want: ErrWorker},
		{name: "presented, not required, expired", token: old, worker: "billing", variant: "b1", want: ErrExpired},
		{name: "presented, not required, garbage", token: "x", worker: "billing", variant: "b1", want: ErrMalformed},
		{name: "revoked token", token: any, worker: "billing", variant: "b1", required: true, deny: []string{anyClaims.ID}, want: ErrRevoked},
		{name: "revoked worker", token: any, worker: "billing", variant: "b1", deny: []string{"billing"}, want: ErrRevoked},
		{name: "revoked variant", token: any, worker: "billing", variant: "b1", deny: []string{"billing/b1"}, want: ErrRevoked},
		{name: "revoked without token", worker: "billing", variant: "b1", deny: []string{"billing/b1"}, want: ErrRevoked},
		{name: "others revoked", token: any, worker: "billing", variant: "b1", required: true, deny: []string{"billing/b2", "admin", "x"}},
	} {
		g := NewGate(v)
		l, err := NewDenyList(tc.deny)
		if err != nil {
			t.Fatal(err)
		}
		g.Deny(l)
		c, err := g.Admit(now, tc.token, tc.worker, tc.variant, tc.required)
		if !errors.Is(err, tc.want) || err == nil != (tc.want == nil) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
		if got := c != nil; got != (err == nil && tc.token != "") {
			t.Errorf("%s: claims %v", tc.name, c)
		}
	}

	blind := NewGate(nil)
	if _, err := blind.Admit(now, any, "billing", "b1", true); !errors.Is(err, ErrNoIssuer) {
		t.Errorf("required, but nothing to check by: %v", err)
	}
	if c, err := blind.Admit(now, any, "billing", "b1", false); err != nil || c != nil {
		t.Errorf("not required, nothing to check by: %v, %v", c, err)
	}
}

func TestKeyFiles(t *testing.T) {
	key, _ := newKey(t)
	other, _ := newKey(t)
	private, err := key.Private()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseKey(private)
	if err != nil || again.Issuer() != key.Issuer() {
		t.Fatalf("read back: %v, %v", again, err)
	}
	a, _ := key.Public()
	b, _ := other.Public()
	v, err := NewVerifier(append(bytes.Clone(a), b...))
	if err != nil || len(v.Issuers()) != 2 {
		t.Fatalf("two issuers: %v, %v", v, err)
	}
	token, _ := issue(t, other, "billing", "", time.Hour)
	if _, err := v.Verify(token, now); err != nil {
		t.Errorf("a token of the second issuer: %v", err)
	}
	var many []byte
	for range maxIssuers + 1 {
		k, _ := newKey(t)
		public, err := k.Public()
		if err != nil {
			t.Fatal(err)
		}
		many = append(many, public...)
	}
	malformed := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{0x30, 0}})
	for name, data := range map[string][]byte{
		"nothing": nil, "garbage": []byte("garbage"), "private key": private, "trailing": append(bytes.Clone(a), "x"...), "other": malformed, "many": many,
	} {
		if _, err := NewVerifier(data); !errors.Is(err, ErrBadKey) {
			t.Errorf("public, %s: %v", name, err)
		} else if strings.Contains(err.Error(), "garbage") {
			t.Errorf("public, %s: the error quotes the file: %v", name, err)
		}
	}
	for name, data := range map[string][]byte{"nothing": nil, "public": a, "two": append(bytes.Clone(private), private...), "other": malformed} {
		if _, err := ParseKey(data); !errors.Is(err, ErrBadKey) {
			t.Errorf("private, %s: %v", name, err)
		}
	}
}

func TestParseDenyList(t *testing.T) {
	l, err := ParseDenyList([]byte("# who\n\nbilling/b1  # lost\r\n@operator\n4f9c\n4f9c\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(l.Entries(), " "); got != "4f9c @operator billing/b1" {
		t.Errorf("entries %q", got)
	}
	var many strings.Builder
	for i := range MaxDenied + 1 {
		fmt.Fprintf(&many, "w%d\n", i)
	}
	for name, text := range map[string]string{
		"two words": "a\nb c\n", "control": "a\x01b", "long": strings.Repeat("a", 300), "many": many.String(), "large": strings.Repeat("#\n", MaxDenyListSize),
	} {
		if _, err := ParseDenyList([]byte(text)); !errors.Is(err, ErrBadDenyList) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var none *DenyList
	if none.Denies("a", "b", nil) || none.Entries() != nil {
		t.Error("no list denies somebody")
	}
}

func TestTokenIsHidden(t *testing.T) {
	const secret = Token("eyJsecret")
	var b strings.Builder
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "token", secret)
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "token", secret)
	fmt.Fprintf(&b, "%v %s %+v %#v %q", secret, secret, struct{ T Token }{secret}, struct{ T Token }{secret}, secret)
	if strings.Contains(b.String(), "secret") {
		t.Errorf("a token shows: %s", b.String())
	}
}

// FuzzToken: whatever a peer presents, the check neither panics nor accepts what was not
// signed, nor quotes it.
func FuzzToken(f *testing.F) {
	key, v := newKey(f)
	good, _ := issue(f, key, "billing", "b1", time.Hour)
	f.Add(string(good))
	f.Add(string(good) + "=")
	f.Add("..")
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJiaWxsaW5nIn0.")
	f.Add(`{"alg":"EdDSA"}`)
	f.Add(strings.Repeat("A", MaxLen+1))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := v.Verify(Token(text), now)
		if err == nil && text != string(good) {
			t.Fatalf("accepted %q: %+v", text, c)
		}
		if err != nil && len(text) > 40 && strings.Contains(err.Error(), text) {
			t.Fatalf("the error quotes the token")
		}
		if _, err := Inspect(Token(text)); err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("inspect: %v", err)
		}
	})
}
