package node

import (
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestSplitMasters(t *testing.T) {
	for list, want := range map[string]string{
		"m":                            "m",
		"m:1":                          "m:1",
		"a, b:2 ,\tc":                  "a|b:2|c",
		"::1,[::2],[::3]:4":            "::1|[::2]|[::3]:4",
		"":                             "", // as is one address that is none
		",":                            "",
		"a,":                           "",
		",a":                           "",
		"a,,b":                         "",
		"a, ,b":                        "",
		"a;b:x":                        "",
		"a:0":                          "",
		"a:1,b:65536":                  "",
		"a,:1":                         "",
		"a,b:1:2":                      "",
		strings.Repeat("a", 300):       "",
		strings.Repeat("a,", 15) + "a": strings.Repeat("a|", 15) + "a",
		strings.Repeat("a,", 16) + "a": "",
	} {
		got, err := SplitMasters(list)
		if (err == nil) != (want != "") || strings.Join(got, "|") != want {
			t.Errorf("%q: %q, %v", list, got, err)
		}
		if err != nil && (wire.CodeOf(err) != wire.CodeBadRequest || len(err.Error()) > 500) {
			t.Errorf("%q: %v", list, err)
		}
	}
}

// Whatever the list is, what is made of it stays within bounds and can be read again.
func FuzzSplitMasters(f *testing.F) {
	for _, seed := range []string{"a,b:1", "[::1]:1,::2", "fe80::1%eth0", "[fe80::1%eth0]:1", ",,", "[,]", "a:1,", "\x00", "[[::1]]:1", ":", "%", "[]:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		m, err := newMasters(list)
		if err != nil {
			if len(err.Error()) > 3000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if len(m.list) == 0 || len(m.list) > maxMasters {
			t.Fatalf("%d masters", len(m.list))
		}
		for _, name := range m.list {
			host, port, err := SplitMaster(name.String())
			if err != nil || host != name.host || port != name.port {
				t.Errorf("%q is written %q, which reads as %q %d: %v", name.host, name, host, port, err)
			}
		}
	})
}

// A master that comes back is found within two seconds, however long it was away.
func TestPauseBetweenRounds(t *testing.T) {
	wait := newBackoff()
	for range 20 {
		nextPause(wait, maxPause)
	}
	for range 200 {
		if p := nextPause(wait, maxUplinkPause); p > 1300*time.Millisecond || p < 70*time.Millisecond {
			t.Fatalf("%s between two rounds", p)
		}
	}
	longest := time.Duration(0)
	for range 200 {
		longest = max(longest, nextPause(wait, maxPause))
	}
	if longest < 3*time.Second || longest > 6500*time.Millisecond {
		t.Errorf("at most %s between two rounds of refusals", longest)
	}
}
