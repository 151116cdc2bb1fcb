package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
)

func TestGenerateKeys(t *testing.T) {
	t.Parallel()
	a, err := GenerateKeys()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Validate(); err != nil {
		t.Error(err)
	}
	b, err := GenerateKeys()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, key := range []string{a.Public, a.Private, b.Public, b.Private} {
		raw, err := base64.RawURLEncoding.DecodeString(key)
		if err != nil || len(raw) != 32 || seen[key] {
			t.Errorf("key is repeated or no base64 of 32 bytes: %v, %d bytes", err, len(raw))
		}
		seen[key] = true
	}
}

func TestKeysValidate(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxKeyLen)
	for _, tc := range []struct {
		keys Keys
		want string // part of the error; "" is valid
	}{
		{Keys{"public", "private"}, ""},
		{Keys{"a b c", "пароль 🔑 key"}, ""},
		{Keys{long, long}, ""},
		{Keys{"", "private"}, "public key is empty"},
		{Keys{"public", ""}, "private key is empty"},
		{Keys{long + "x", "private"}, "public key is longer"},
		{Keys{"public", long + "x"}, "private key is longer"},
		{Keys{"clé", "private"}, "not ASCII"},
		{Keys{"a\r\nX-Evil: 1", "private"}, "public key has a control"},
		{Keys{"public", "a\nb"}, "private key has a control"},
		{Keys{"public", "a\u0085b"}, "private key has a control"},
		{Keys{"public", "\xff"}, "private key is not valid UTF-8"},
		{Keys{" public", "private"}, "public key begins or ends"},
		{Keys{"public", "private\u00a0"}, "private key begins or ends"},
	} {
		err := tc.keys.Validate()
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%.20q: %v", tc.keys.Public, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%.20q: %v, want %q", tc.keys.Public, err, tc.want)
		}
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	k := Keys{"public", "private"}
	got := k.Fingerprint()
	if !regexp.MustCompile(`^[0-9a-f]{12}$`).MatchString(got) {
		t.Fatalf("fingerprint %q", got)
	}
	if again := k.Fingerprint(); again != got {
		t.Errorf("fingerprint changed from %s to %s", got, again)
	}
	for _, other := range []Keys{{"public", "other"}, {"other", "private"}} {
		if other.Fingerprint() == got {
			t.Error("other keys have the same fingerprint")
		}
	}
}

func TestKeysAreNeverShown(t *testing.T) {
	t.Parallel()
	k := Keys{"the-public", "the-private"}
	shown := k.String()
	if shown != "keys("+k.Fingerprint()+")" {
		t.Errorf("String = %q", shown)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("keys", "direct", k, "pointer", &k)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("keys", "direct", k, "nested", struct{ Keys Keys }{k})
	marshalled, err := json.Marshal(map[string]any{"direct": k, "pointer": &k, "nested": struct{ Keys Keys }{k}})
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{log.String(), string(marshalled)}
	nested := struct {
		Name string
		List []Keys
	}{"n", []Keys{k}}
	for _, verb := range []string{"%+v", "%#v", "%s", "%q", "%x"} {
		texts = append(texts, fmt.Sprintf(verb, nested))
	}
	for _, text := range texts {
		if strings.Contains(text, "the-p") || strings.Contains(text, fmt.Sprintf("%x", "the-p")) {
			t.Errorf("key shown in %s", text)
		}
	}
	if !strings.Contains(texts[0], shown) || !strings.Contains(texts[1], shown) {
		t.Errorf("fingerprint not shown in %s", texts[:2])
	}
	if got := (Keys{}).String(); got != "keys(none)" {
		t.Errorf("no keys: %q", got)
	}
}
