package demo_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/demo"
	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/link/linktest"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(linktest.Settled(m)) }

// audience is told what the demo does.
type audience struct {
	started chan demo.Mesh
	calls   atomic.Int64
	stopped chan demo.Summary
}

func (a *audience) Started(m demo.Mesh)    { a.started <- m }
func (a *audience) Called(demo.Call)       { a.calls.Add(1) }
func (a *audience) Stopped(s demo.Summary) { a.stopped <- s }

// There is something to look at after a moment, and nothing left at the end.
func TestDemo(t *testing.T) {
	a := &audience{started: make(chan demo.Mesh, 1), stopped: make(chan demo.Summary, 1)}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	begun := time.Now()
	go func() { ended <- demo.Run(ctx, demo.Config{Keys: meshtest.Keys, Out: a, Version: "test"}) }()
	mesh := meshtest.Await(t, a.started, "the demo to start")

	watching, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	w, err := node.Watch(watching, mesh.Operator)
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	defer w.Close()
	model := inspect.NewModel()
	var p *inspect.Picture
	var looked time.Time
	missing := "everything"
	for missing != "" {
		u, err := w.Next(watching)
		if err != nil {
			t.Fatalf("%v; missing after %s: %s", err, time.Since(begun), missing)
		}
		model.Apply(u)
		if time.Since(looked) < 100*time.Millisecond {
			continue // a picture for each report would be more work than some machines can do in time
		}
		looked = time.Now()
		p = model.Picture(looked)
		missing = missingIn(p, mesh.Nodes)
	}
	if p.Lost > 0 {
		t.Errorf("%d reports were lost", p.Lost)
	}
	if calls, most := a.calls.Load(), int64(2+time.Since(begun)/(200*time.Millisecond)); calls == 0 || calls > most {
		t.Errorf("%d calls were told of, want 1 to %d", calls, most)
	}
	_ = w.Close()
	stop()
	if err := meshtest.Await(t, ended, "the demo to end"); err != nil {
		t.Errorf("the demo ended with %v", err)
	}
	if s := meshtest.Await(t, a.stopped, "the summary"); s.Calls < 50 || len(s.Failed) == 0 {
		t.Errorf("the summary is %+v", s)
	}
}

// missingIn says what a picture does not yet show.
func missingIn(p *inspect.Picture, nodes []string) string {
	for _, name := range nodes {
		if !slices.ContainsFunc(p.Nodes, func(n inspect.Node) bool { return n.Name == name && n.Reports }) {
			return "reports of " + name
		}
	}
	for _, command := range []string{"billing.statement", "search.query", "stock.level", "mailer.send", "billing.totals"} {
		if !slices.ContainsFunc(p.Commands, func(c inspect.Command) bool { return c.Name == command && c.Calls > 0 }) {
			return "calls of " + command
		}
	}
	var codes []string
	for _, c := range p.Commands {
		for code := range c.Errors {
			codes = append(codes, string(code))
		}
	}
	for _, code := range []wire.Code{wire.CodeHandlerError, wire.CodeTimeout, wire.CodeCanceled} {
		if !slices.Contains(codes, string(code)) {
			return fmt.Sprintf("%s among the failures (%s)", code, strings.Join(codes, " "))
		}
	}
	switch {
	case !slices.ContainsFunc(p.Queues, func(q inspect.Queue) bool { return q.Depth > 5 }):
		return "a queue that is full of work"
	case !slices.ContainsFunc(p.Requests, func(r inspect.Live) bool { return r.Age > 2*time.Second }):
		return "a slow request"
	case !slices.ContainsFunc(p.Events, func(e inspect.Event) bool { return e.Type == "log" }):
		return "a line of a log"
	}
	return ""
}
