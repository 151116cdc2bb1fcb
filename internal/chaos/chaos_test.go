//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshctl/meshctl/internal/chaos/history"
	"github.com/meshctl/meshctl/internal/mesh/queue"
)

// one runs a scenario below a folder of the test.
func one(t *testing.T, ctx context.Context, s Scenario) (Result, error) {
	t.Helper()
	tmp, err := os.MkdirTemp("", "chaos") // a short path, for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	results, err := Run(ctx, Options{Scenarios: []Scenario{s}, Program: program, Dir: tmp, Seed: 1})
	if err != nil {
		if left, _ := os.ReadDir(tmp); len(left) > 0 {
			t.Errorf("it left %v", left)
		}
		return Result{}, err
	}
	r := results[0]
	_, err = os.Stat(r.Folder)
	if kept := r.Folder != "" && err == nil; kept != (r.Verdict == Broken || r.Verdict == Failed) {
		t.Errorf("%s, and the folder %q is there: %v", r.Verdict, r.Folder, err)
	}
	return r, nil
}

// Nodes that keep their queues in memory lose jobs when they are killed: that is what the proof has to find.
func TestLostJobsAreFound(t *testing.T) {
	t.Parallel()
	r, err := one(t, t.Context(), Scenario{Name: "sabotage", Short: Size{Count: 3000}, Run: func(ctx context.Context, lab *Lab) (Report, error) {
		return (&jobs{
			lab: lab, nodes: []string{"w1"}, rules: history.Rules{Ordered: inOrder},
			args: []string{"--queue", "memory"}, stuck: 3 * time.Second,
		}).run(ctx)
	}})
	if err != nil {
		t.Fatal(err)
	}
	lost, _ := r.Figure("lost")
	if r.Verdict != Broken || lost == 0 || !strings.Contains(strings.Join(r.Violations, "\n"), "was accepted and is lost") {
		t.Errorf("%s, %v lost: %v", r.Verdict, lost, r.Violations)
	}
	t.Log(r.Measured())
}

func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		want, reason string
		run          func(*Lab) (Report, error)
	}{
		{"held", "", func(*Lab) (r Report, err error) { r.Must(true, "never told"); return r, nil }},
		{"broken", "", func(*Lab) (r Report, err error) { r.Must(false, "it is not so"); return r, nil }},
		{"failed", "no luck", func(*Lab) (Report, error) { return Report{}, errors.New("no luck") }},
		{"skipped", "nothing here", func(*Lab) (Report, error) { return Report{}, Skip("nothing %s", "here") }},
		{"failed", "ended at its start", func(lab *Lab) (Report, error) {
			_, err := lab.StartMaster("this is no schema")
			return Report{}, err
		}},
	} {
		r, err := one(t, t.Context(), Scenario{Name: "verdict", Run: func(_ context.Context, lab *Lab) (Report, error) { return tt.run(lab) }})
		if err != nil || string(r.Verdict) != tt.want || !strings.Contains(r.Reason, tt.reason) {
			t.Errorf("got %+v, %v; want %s %s", r, err, tt.want, tt.reason)
		}
	}
}

// Whatever a scenario has started ends with it, also when its context does.
func TestEndsWhatItStarted(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	var p *Process
	_, err := one(t, ctx, Scenario{Name: "interrupted", Run: func(ctx context.Context, lab *Lab) (_ Report, err error) {
		if p, err = lab.Exec("sleep", "sleep", "600"); err != nil {
			return Report{}, err
		}
		cancel(interrupted)
		return Report{}, lab.Await("what never comes", time.Minute, func() bool { return false })
	}})
	if !errors.Is(err, interrupted) {
		t.Errorf("got %v", err)
	}
	if p == nil || p.Running() {
		t.Error("the process goes on")
	}
}

func TestReportIsBounded(t *testing.T) {
	var report Report
	for n := range 2 * maxViolations {
		report.Must(false, "number %d", n)
	}
	var r Result
	r.finish(report, nil, 0)
	if n := len(r.Violations); n != maxViolations+1 || r.Violations[n-1] != "and 20 more" {
		t.Errorf("%d violations, the last is %q", n, r.Violations[n-1])
	}
}

func TestFigures(t *testing.T) {
	var report Report
	report.Count("jobs", 1234567)
	report.Took("median", 12*time.Millisecond)
	report.Took("maximum", 1500*time.Millisecond)
	report.Measure("growth", -3, "%")
	report.Note("nothing else")
	var r Result
	r.finish(report, nil, 0)
	if got := r.Measured(); got != "1,234,567 jobs, median 12 ms, maximum 1.50 s, growth -3.00 %; nothing else" {
		t.Errorf("got %s", got)
	}
}

// The cuts know the pages of a real store.
func TestCuts(t *testing.T) {
	dir := t.TempDir()
	store, err := queue.OpenEmbedded(queue.EmbeddedConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	q, err := store.Queue("job", queue.Options{Command: "job"})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		stored := make(chan error, 1)
		q.Add(queue.Item{ID: fmt.Sprint(n), Payload: []byte(`"` + strings.Repeat("x", 97*n) + `"`)}, func(err error) { stored <- err })
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "queue.db"))
	if err != nil {
		t.Fatal(err)
	}
	lab := &Lab{seed: 1}
	classes := map[string]int{}
	for _, c := range cuts(file, 3, lab.Dice("cuts")) {
		classes[c.class]++
		if c.size < 0 || c.size > len(file) {
			t.Errorf("%s of %d", c, len(file))
		}
	}
	for _, class := range []string{"inside the freelist", "inside a leaf", "inside a branch", "in the middle of an item longer than a page", "inside the second meta page"} {
		if classes[class] != 3 {
			t.Errorf("%s: %d cuts", class, classes[class])
		}
	}
	if used := usedBytes(file); used > len(file) || used < 100*97*100/2 {
		t.Errorf("%d of %d bytes are in use", used, len(file))
	}
}
