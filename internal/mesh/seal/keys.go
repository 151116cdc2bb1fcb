package seal

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxKeyLen is the longest key, in bytes.
const MaxKeyLen = 4096

// generatedKeyBytes is the entropy of a generated key.
const generatedKeyBytes = 32

// Keys are what the peers of one mesh share, free-form text each. Public admits to
// discovery and is sent in clear; Private seals every message and is never sent.
//
// Printing, logging or marshalling Keys shows the fingerprint alone, at its price.
type Keys struct{ Public, Private string }

// GenerateKeys draws a pair of random keys.
func GenerateKeys() (Keys, error) {
	var b [2 * generatedKeyBytes]byte
	if _, err := rand.Read(b[:]); err != nil {
		return Keys{}, fmt.Errorf("generate keys: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString
	return Keys{Public: text(b[:generatedKeyBytes]), Private: text(b[generatedKeyBytes:])}, nil
}

// Validate fails unless both keys are 1 to MaxKeyLen bytes of UTF-8 without control
// characters or white space at the ends. The public key, which travels in an HTTP
// header, is ASCII besides. Errors quote no key.
func (k Keys) Validate() error {
	if err := validKey("public", k.Public); err != nil {
		return err
	}
	for i := range len(k.Public) {
		if k.Public[i] > unicode.MaxASCII {
			return errors.New("public key is not ASCII, as an HTTP header has to be")
		}
	}
	return validKey("private", k.Private)
}

func validKey(kind, key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%s key is empty", kind)
	case len(key) > MaxKeyLen:
		return fmt.Errorf("%s key is longer than %d bytes", kind, MaxKeyLen)
	case !utf8.ValidString(key):
		return fmt.Errorf("%s key is not valid UTF-8", kind)
	case strings.ContainsFunc(key, unicode.IsControl):
		return fmt.Errorf("%s key has a control character", kind)
	case strings.TrimSpace(key) != key:
		return fmt.Errorf("%s key begins or ends with white space", kind)
	}
	return nil
}

// Fingerprint names the pair of keys by 12 hexadecimal digits that are safe to
// show: peers with the same fingerprint have the same keys. Each guess at the
// private key costs as much against the fingerprint as against a native link's first
// message.
//
// For that reason it takes tens of milliseconds: call it once and keep the result, or
// use Key.
func (k Keys) Fingerprint() string {
	d, err := derive(k)
	if err != nil { // only where FIPS 140-only mode refuses a short key
		return "unavailable"
	}
	return d.fingerprint
}

// String shows the fingerprint alone.
func (k Keys) String() string {
	if k == (Keys{}) {
		return "keys(none)"
	}
	return "keys(" + k.Fingerprint() + ")"
}

// GoString shows the fingerprint alone.
func (k Keys) GoString() string { return k.String() }

// Format shows the fingerprint alone, whatever the verb.
func (k Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue shows the fingerprint alone.
func (k Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText shows the fingerprint alone. JSON and YAML use it too.
func (k Keys) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// MarshalJSON shows the fingerprint alone.
func (k Keys) MarshalJSON() ([]byte, error) { return []byte(`"` + k.String() + `"`), nil }
