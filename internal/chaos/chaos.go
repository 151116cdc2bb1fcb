// Package chaos proves on real processes what meshctl promises about failures. Each
// Scenario starts a mesh of the running binary, with a real redis-server where it needs
// one, breaks parts of it with SIGKILL, SIGSTOP, full disks and cut links, and then
// decides from what callers and handlers wrote down (package history) whether anything
// was lost that may not be. `meshctl chaos run` and the tests in test/chaos run them.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Scenario is one proof.
type Scenario struct {
	Name  string
	Shows string // what must hold, in a line
	// Short is for CI, all scenarios together in two minutes on two cores; Long is
	// what figures are published from.
	Short, Long Size
	// Run breaks things and measures. An error says that it could not be carried out, or,
	// made with Skip, that it cannot be here; what did not hold is in the Report.
	Run func(ctx context.Context, lab *Lab) (Report, error)
}

// Size is how much a scenario does. It uses what has a meaning for it.
type Size struct {
	Count int           // jobs, kills, seeds …
	Time  time.Duration // how long a load lasts
}

func (s Size) scaled(by float64) Size {
	if s.Count > 0 {
		s.Count = max(1, int(math.Round(float64(s.Count)*by)))
	}
	s.Time = time.Duration(float64(s.Time) * by)
	return s
}

func (s Size) String() string {
	switch {
	case s.Count == 0:
		return s.Time.String()
	case s.Time == 0:
		return fmt.Sprint(s.Count)
	}
	return fmt.Sprintf("%d, %s", s.Count, s.Time)
}

// Scenarios are all there are, in the order in which they run. Each has a file of its own with a
// function that gives it; parts of it that have to be processes are workers (workers.go).
func Scenarios() []Scenario {
	return []Scenario{
		queueFile(),
		queueRedis(),
		damage(),
		masterKill(),
		startStop(),
		stopped(),
		partition(),
		slowConsumer(),
		soak(),
	}
}

// Find gives the scenario of a name.
func Find(name string) (Scenario, bool) {
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, true
		}
	}
	return Scenario{}, false
}

// Options say what Run runs, and how.
type Options struct {
	Scenarios []Scenario
	Long      bool
	Scale     float64 // of the size; 0 is 1
	Seed      uint64  // of everything that is random
	// Program is the meshctl that is tested: the one that runs, unless a test says otherwise.
	Program string
	// Dir is where the folders of the scenarios are made; default: where temporary files are. Its path has to be short,
	// as sockets are in it.
	Dir string
	// Progress, if set, is told what a scenario does at present, from any goroutine.
	Progress func(scenario, doing string)
	// Ended, if set, gets each result as its scenario ends.
	Ended func(Result)
}

// A scenario that hangs is ended: after shortLimit, or longLimit in its long form, times the scale.
const (
	shortLimit = 3 * time.Minute
	longLimit  = 90 * time.Minute
)

// Run runs scenarios one after another. Nothing of them is left when it returns, but for the
// folders of those that did not hold. It fails when ctx ends, beside the results of those that
// ended before, and where there is no room for a lab.
func Run(ctx context.Context, o Options) ([]Result, error) {
	if o.Scale == 0 {
		o.Scale = 1
	}
	if o.Program == "" {
		program, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the running program: %w", err)
		}
		o.Program = program
	}
	root, err := os.MkdirTemp(o.Dir, "meshctl-chaos-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the scenarios: %w", err)
	}
	defer os.Remove(root) // unless a scenario's folder is kept in it
	results := []Result{}
	for _, s := range o.Scenarios {
		r := runScenario(ctx, o, s, filepath.Join(root, s.Name))
		if err := context.Cause(ctx); err != nil {
			return results, errors.Join(err, os.RemoveAll(filepath.Join(root, s.Name)))
		}
		results = append(results, r)
		if o.Ended != nil {
			o.Ended(r)
		}
	}
	return results, nil
}

func runScenario(ctx context.Context, o Options, s Scenario, dir string) Result {
	size, limit := s.Short, shortLimit
	if o.Long {
		size, limit = s.Long, longLimit
	}
	size = size.scaled(o.Scale)
	result := Result{Scenario: s.Name, Shows: s.Shows, Size: size.String()}
	if runtime.GOOS == "windows" {
		result.Verdict, result.Reason = Skipped, "it needs the signals of a Unix system"
		return result
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(float64(limit)*max(1, o.Scale)), errTooLong)
	defer cancel()
	report, err := func() (report Report, err error) {
		lab, err := newLab(ctx, o, s, size, dir)
		if err != nil {
			return report, err
		}
		defer lab.close()
		if report, err = s.Run(ctx, lab); err == nil {
			err = lab.accidents(&report)
		}
		return report, err
	}()
	if err != nil && errors.Is(context.Cause(ctx), errTooLong) {
		err = fmt.Errorf("%w: %w", errTooLong, err)
	}
	result.finish(report, err, time.Since(begun))
	if result.Verdict == Broken || result.Verdict == Failed {
		result.Folder = dir
	} else {
		_ = os.RemoveAll(dir)
	}
	return result
}

var errTooLong = errors.New("the scenario took too long")
