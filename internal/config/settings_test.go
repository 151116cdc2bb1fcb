package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestSettingsTable(t *testing.T) {
	fields := map[string]bool{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if tag := f.Tag.Get("mapstructure"); tag != "" && tag != "-" {
			fields[tag] = true
		}
	}
	keys := map[string]bool{}
	envs := map[string]string{}
	for _, s := range Settings() {
		if keys[s.Key] {
			t.Errorf("%s is in the table twice", s.Key)
		}
		keys[s.Key] = true
		if err := s.Validate(s.Default); err != nil {
			t.Errorf("%s: the default is refused: %v", s.Key, err)
		}
		if s.Example != "" {
			if err := s.Validate(s.Example); err != nil {
				t.Errorf("%s: the example is refused: %v", s.Key, err)
			}
		}
		if !s.Secret && !fields[s.Key] {
			t.Errorf("%s has no field in Config", s.Key)
		}
		if len(s.Commands) == 0 || s.Usage == "" || strings.Contains(s.Usage, "\n") {
			t.Errorf("%s has no commands, or no usage of one line", s.Key)
		}
		for _, e := range s.EnvNames() {
			if other := envs[e]; other != "" {
				t.Errorf("%s and %s both take %s", s.Key, other, e)
			}
			envs[e] = s.Key
		}
	}
	for f := range fields {
		if !keys[f] {
			t.Errorf("the field %s of Config is in no setting", f)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		key, text string
		ok        bool
	}{
		{"port", "0", true}, {"port", "65535", true}, {"port", "65536", false}, {"port", "-1", false}, {"port", "x", false}, {"port", "", false},
		{"timeout", "3s", true}, {"timeout", "0s", false}, {"timeout", "-1s", false}, {"timeout", "3", false},
		{"max-payload", "1MiB", true}, {"max-payload", "65536", true}, {"max-payload", "1", false}, {"max-payload", "9999999999GiB", false}, {"max-payload", "1.5MiB", false},
		{"master", "a.example", true}, {"master", "a.example:80", true}, {"master", "[::1]:80", true}, {"master", "::1", true},
		{"master", "a.example:0", false}, {"master", "a.example:99999", false}, {"master", "http://a.example", false}, {"master", ":80", false}, {"master", "a b", false},
		{"master", "a.example,b.example:80, ::1,[::1]:80", true}, {"master", "a,,b", false}, {"master", "a,", false}, {"master", "a,b:0", false},
		{"master", "a,http://b", false}, {"master", "a,b c", false}, {"master", strings.Repeat("a,", 16) + "a", false},
		{"host", "0.0.0.0", true}, {"host", "::", true}, {"host", "0.0.0.0:80", false},
		{"http", ":9090", true}, {"http", "127.0.0.1:0", true}, {"http", "127.0.0.1", false}, {"http", ":x", false},
		{"log-level", "trace", true}, {"log-level", "TRACE", false}, {"log-format", "xml", false},
	} {
		s, ok := Lookup(tc.key)
		if !ok {
			t.Fatalf("no setting %s", tc.key)
		}
		if err := s.Validate(tc.text); (err == nil) != tc.ok {
			t.Errorf("%s: %q: error %v, want ok %v", tc.key, tc.text, err, tc.ok)
		}
	}
}

func TestBytesText(t *testing.T) {
	for text, want := range map[string]Bytes{"0": 0, "1": 1, "1KiB": 1024, "3 MiB": 3 << 20, "1kb": 1000, "2GB": 2e9, "1g": 1 << 30} {
		got, err := ParseBytes(text)
		if err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d", text, got, err, want)
			continue
		}
		if back, err := ParseBytes(got.String()); err != nil || back != want {
			t.Errorf("%q is written %q, which reads as %d, %v", text, got, back, err)
		}
	}
	for _, text := range []string{"", "x", "1x", "-1", "+1", "1.5", "KiB", "99999999999999999999", "9223372036854775807KiB", "1 2"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", text, got)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"mesh-port", "master", "max-payload", "port"}
	for word, want := range map[string]string{"mesh-prot": "mesh-port", "mastre": "master", "prot": "port", "zzzzzz": "", "": "", "maxpayload": "max-payload"} {
		if got := Nearest(word, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
