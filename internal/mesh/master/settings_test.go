package master_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/identity"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
)

// lines keeps what is logged.
type lines struct {
	slog.Handler
	mu  sync.Mutex
	all []string
}

func (l *lines) Handle(ctx context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	l.mu.Lock()
	l.all = append(l.all, line)
	l.mu.Unlock()
	return l.Handler.Handle(ctx, r)
}

// count is how many lines have all these in them.
func (l *lines) count(all ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
lines:
	for _, line := range l.all {
		for _, part := range all {
			if !strings.Contains(line, part) {
				continue lines
			}
		}
		n++
	}
	return n
}

func denyList(t *testing.T, text string) *identity.DenyList {
	t.Helper()
	l, err := identity.ParseDenyList([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Masters say once of each other, for each difference, that they have another schema or let
// others in, however often the list of masters changes.
func TestMastersCompareSettings(t *testing.T) {
	var logs []*lines
	var issuer *identity.Verifier
	m, _, masters := several(t, 2, func(c *master.Config) {
		l := &lines{Handler: c.Logger.Handler()}
		logs = append(logs, l)
		c.Logger, c.Issuer = slog.New(l), issuer
	})
	const letsIn, schema = "another master lets others in", "another master has another schema"
	// policies are those of this master and of the other one of the first two, "" when unknown.
	policies := func(mm *meshtest.Master) (here, there string) {
		for i, x := range mm.Masters() {
			switch x.ID {
			case masters[0].Masters()[0].ID, masters[1].Masters()[0].ID:
				if i == 0 {
					here = x.Policy
				} else {
					there = x.Policy
				}
			}
		}
		return here, there
	}
	agree := func(want bool, all ...*meshtest.Master) {
		t.Helper()
		for i, mm := range all {
			meshtest.WaitFor(t, func() bool {
				here, there := policies(mm)
				return here != "" && there != "" && (here == there) == want
			}, func() string {
				here, there := policies(mm)
				return fmt.Sprintf("the masters to agree: %v; at %d of %d they say %q and %q", want, i, len(all), here, there)
			})
		}
	}
	logged := func(of int, want int, all ...string) {
		t.Helper()
		meshtest.WaitFor(t, func() bool { return logs[of].count(all...) >= want }, func() string { return fmt.Sprintf("master %d to say %q", of, all) })
		if n := logs[of].count(all...); n != want {
			t.Errorf("master %d said %d times %q, want %d", of, n, all, want)
		}
	}
	agree(true, masters...)
	first := masters[0].Masters()[0].ID

	// No list is the same as an empty one.
	if err := masters[0].SetDenyList(denyList(t, "# nobody\n")); err != nil {
		t.Fatal(err)
	}
	agree(true, masters...)
	if err := masters[0].SetDenyList(denyList(t, "answerer/b7\n")); err != nil {
		t.Fatal(err)
	}
	agree(false, masters[1])
	logged(1, 1, letsIn, first, "--token-issuer and --token-denylist")
	if err := masters[0].SetSchema(meshtest.Parse(t, sharedSchema+"more: {_allow: []}\n")); err != nil {
		t.Fatal(err)
	}
	logged(1, 1, schema, first)

	// Another one comes, with another issuer, and goes: the list of masters changes.
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public()
	if err != nil {
		t.Fatal(err)
	}
	if issuer, err = identity.NewVerifier(public); err != nil {
		t.Fatal(err)
	}
	third := m.StartMaster(0)
	id := third.Masters()[0].ID
	logged(1, 1, letsIn, id)
	logged(0, 1, letsIn, id)
	third.Stop()
	logged(1, 1, "another master has gone", id)

	// Given to both, both agree; and a further difference is said again.
	list := denyList(t, "answerer/b8\nanswerer/b9\n")
	if err := masters[1].SetDenyList(list); err != nil {
		t.Fatal(err)
	}
	if err := masters[0].SetDenyList(list); err != nil {
		t.Fatal(err)
	}
	agree(true, masters...)
	logged(1, 1, schema, first)
	if err := masters[0].SetDenyList(nil); err != nil {
		t.Fatal(err)
	}
	agree(false, masters[1])
	logged(1, 1, letsIn, first, "policy="+masters[0].Masters()[0].Policy+" ")
}
