package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/inspect/query"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const (
	// judgeEvery is how often an assertion is looked at.
	judgeEvery = 250 * time.Millisecond
	// settleTime is how long nodes have to begin to report before counting starts.
	settleTime = 3 * time.Second
)

// runHeadless watches without showing anything, and judges.
func runHeadless(ctx context.Context, opts *watchOptions, w *watched) error {
	model := inspect.NewModel()
	if opts.assert == nil {
		return headlessRecord(ctx, opts, w)
	}
	g := &gate{assert: opts.assert, holdFor: opts.holdFor, within: opts.within}
	if w.replay != nil {
		return opts.judgeRecording(ctx, w, model, g)
	}
	var next time.Time
	err := w.stream(ctx, judgeEvery, func(u *inspect.Update) (bool, error) {
		if u != nil {
			model.Apply(*u)
		}
		now := time.Now()
		if now.Before(next) {
			return true, nil
		}
		next = now.Add(judgeEvery)
		done, err := g.judge(model.Picture(now))
		return !done, err
	})
	if err != nil {
		return err
	}
	return g.print(opts)
}

// judgeRecording judges by the time of the recording, which stands still at its gaps.
func (opts *watchOptions) judgeRecording(ctx context.Context, w *watched, model *inspect.Model, g *gate) error {
	const gap = time.Minute
	var now, next time.Time
	done := false
	err := w.stream(ctx, 0, func(u *inspect.Update) (_ bool, err error) {
		now = time.UnixMilli(u.At)
		if next.IsZero() || now.Sub(next) > gap {
			next = now.Add(judgeEvery)
		}
		for ; !done && !next.After(now); next = next.Add(judgeEvery) {
			if done, err = g.judge(model.Picture(next)); err != nil {
				return false, err
			}
		}
		model.Apply(*u)
		return !done, nil
	})
	if err == nil && !done {
		_, err = g.judge(model.Picture(now))
	}
	if err != nil {
		return err
	}
	return g.print(opts)
}

// headlessRecord only reads, so that it is recorded.
func headlessRecord(ctx context.Context, opts *watchOptions, w *watched) error {
	end := time.Now().Add(opts.holdFor)
	return w.stream(ctx, judgeEvery, func(*inspect.Update) (bool, error) {
		return time.Now().Before(end) && w.recorder.Err() == nil, nil
	})
}

// gate decides whether an assertion becomes true within a time and then stays true for
// another.
type gate struct {
	assert          *query.Assertion
	holdFor, within time.Duration

	first   time.Time // the first picture
	base    *query.Baseline
	since   time.Time // it has been true; zero before
	held    time.Duration
	passed  bool
	reason  string // why it failed
	seen    []query.Finding
	judged  bool // to its end
	settled time.Time
}

// judge looks at the next picture; done says that it is decided. It fails where the
// assertion makes no sense in this mesh.
func (g *gate) judge(p *inspect.Picture) (done bool, err error) {
	if g.first.IsZero() {
		g.first = p.At
	}
	if g.base == nil {
		if !settled(p) && p.At.Sub(g.first) < settleTime {
			return false, nil
		}
		base := query.NewBaseline(p)
		g.base, g.settled = &base, p.At
	}
	holds, seen, err := g.assert.Check(p, *g.base)
	if err != nil {
		return false, usagef("", "--assert: %v", err)
	}
	if !p.Status.Connected {
		holds = false
	}
	g.seen = seen
	if holds && g.since.IsZero() {
		g.since = p.At
	}
	switch {
	case g.since.IsZero():
		if p.At.Sub(g.settled) < g.within {
			return false, nil
		}
		g.reason = fmt.Sprintf("it did not become true within %s", g.within)
	case !holds:
		g.held = p.At.Sub(g.since)
		g.reason = fmt.Sprintf("it was true for %s only", g.held.Round(100*time.Millisecond))
	case p.At.Sub(g.since) < g.holdFor:
		g.held = p.At.Sub(g.since)
		return false, nil
	default:
		g.held, g.passed = p.At.Sub(g.since), true
	}
	if !p.Status.Connected {
		g.reason += ": the master was lost"
	}
	g.judged = true
	return true, nil
}

// settled tells whether all that can be expected to report do so.
func settled(p *inspect.Picture) bool {
	if p.Schema == nil {
		return false
	}
	for i := range p.Nodes {
		if n := &p.Nodes[i]; n.Kind == wire.KindMeshctl && !n.Reports && n.Health != inspect.Gone {
			return false
		}
	}
	return true
}

// print tells the verdict, and makes an exit code of it.
func (g *gate) print(opts *watchOptions) error {
	if !g.judged {
		g.reason = "the recording ended before it was decided"
	}
	out := opts.app.Out
	if opts.output == formatJSON {
		type value struct {
			Call  string   `json:"call"`
			Want  string   `json:"want"`
			Value *float64 `json:"value"` // null: there is none
			Unit  string   `json:"unit,omitempty"`
			Holds bool     `json:"holds"`
		}
		values := make([]value, len(g.seen))
		for i, f := range g.seen {
			values[i] = value{f.Call, f.Want, nil, f.Unit, f.Holds}
			if f.Known {
				values[i].Value = &f.Value
			}
		}
		verdict := struct {
			Passed bool    `json:"passed"`
			Assert string  `json:"assert"`
			HeldMS float64 `json:"held_ms"`
			Reason string  `json:"reason,omitempty"`
			Values []value `json:"values"`
		}{g.passed, g.assert.String(), millis(g.held), g.reason, values}
		if err := writeJSON(out, verdict, true); err != nil {
			return err
		}
	} else {
		rows := make([][]string, len(g.seen))
		for i, f := range g.seen {
			holds, value := "yes", "none"
			if !f.Holds {
				holds = "no"
			}
			if f.Known {
				value = strconv.FormatFloat(f.Value, 'f', -1, 64) + f.Unit
			}
			rows[i] = []string{f.Call, f.Want, value, holds}
		}
		if err := writeTable(out, []string{"VALUE", "WANTED", "SEEN", "HOLDS"}, rows); err != nil {
			return err
		}
	}
	if g.passed {
		return nil
	}
	return &reported{codeFailure, "the assertion failed: " + g.reason}
}
