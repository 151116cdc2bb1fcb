package wire

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for _, tc := range []struct {
		kind    string
		check   func(string) error
		good    []string
		bad     []string
		longest int
	}{
		{"worker", ValidWorker, []string{"worker", "nodeB", "a-b_9"}, []string{"9a", "a.b", "é", OperatorWorker}, MaxNameLen},
		{"command", ValidCommand, []string{"status", "info2"}, []string{"uid", "meshctl", "only", "exclude", ControlNodes}, MaxNameLen},
		{"variant", ValidVariant, []string{"b1", "7", "Oj78pHWGvbcRtMgaAAAB", "pod-1.x@y:#"}, []string{"a b", "a/b", "a,b", "é", "\x7f", "CONSTRUCTOR", "__defineGetter__"}, MaxVariantLen},
		{"uid", ValidUID, []string{"c81fc4f7-52b3-4623-9174-e40bae45a43b", "1", "a.b:c_d"}, []string{"a b", `a"`, "a/b", "hasOwnProperty"}, MaxUIDLen},
	} {
		for _, s := range append(tc.good, strings.Repeat("x", tc.longest)) {
			if err := tc.check(s); err != nil {
				t.Errorf("%s %q: %v", tc.kind, s, err)
			}
		}
		for _, s := range append(tc.bad, "", "__proto__", "constructor", "toString", "valueOf", "a\n", "\xff", strings.Repeat("x", tc.longest+1)) {
			if tc.check(s) == nil {
				t.Errorf("%s %q accepted", tc.kind, s)
			}
		}
	}
}

func TestValidHost(t *testing.T) {
	for _, s := range []string{
		"localhost", "a", "a.b.", "my_service_1", "1and1.com", "3f9ab1c20d4e", "123456789012", "a.1b", "xn--e1afmkfd.xn--p1ai", "127.0.0.1", "::1",
		"2001:db8::1", "::ffff:10.0.0.1", "fe80::1%en0", strings.Repeat(strings.Repeat("a", 49)+".", 5) + "com",
	} {
		if err := validHost(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{
		"", ".", "..", "a..b", ".a", "-a", "a-", "a.-b", "a b", "a/b", "a@b", "a:80", "[::1]", "1.2.3", "1.2.3.4.5", "256.1.1.1",
		"a.0x7f", "10", "é", "a\n", "fe80::1%e n", "fe80::1%é", strings.Repeat("a", 64), strings.Repeat("a.", 127),
	} {
		if validHost(s) == nil {
			t.Errorf("%q accepted", s)
		}
	}
}

func TestParseTarget(t *testing.T) {
	worker, command, err := ParseTarget("worker.status")
	if worker != "worker" || command != "status" || err != nil {
		t.Errorf("%q %q %v", worker, command, err)
	}
	for _, s := range []string{"", ".", "worker", "worker.", ".status", "a.b.c", "a b.c", "@operator.x", "a.uid", strings.Repeat("x", 1<<20)} {
		worker, command, err := ParseTarget(s)
		wantBadRequest(t, err, "")
		if worker != "" || command != "" {
			t.Errorf("%.80q: returned %q %q", s, worker, command)
		}
		if e, ok := err.(*Error); ok && (e.Hint == "" || len(e.Message) > 1024) {
			t.Errorf("%.80q: hint %q, %d bytes of message", s, e.Hint, len(e.Message))
		}
	}
}
