//go:build unix

package chaos

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
)

// program is the built meshctl.
var program string

func TestMain(m *testing.M) { meshtest.MainWithProgram(m, &program) }

// must runs the short form of a scenario, and gives the result.
func must(t *testing.T, verdict Verdict, s Scenario, scale float64) Result {
	t.Helper()
	results, err := Run(t.Context(), Options{Scenarios: []Scenario{s}, Scale: scale, Seed: 1, Program: program, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	r := results[0]
	t.Logf("%s: %s; %s", r.Verdict, r.Measured(), r.Violations)
	if r.Verdict == Failed && strings.Contains(r.Reason, "too busy") {
		t.Skip(r.Reason)
	}
	if r.Verdict != verdict {
		t.Errorf("the verdict is %s (%s)", r.Verdict, r.Reason)
	}
	return r
}

// TestStoppedCanBreak has peers that are taken for lost after less than they are stopped.
func TestStoppedCanBreak(t *testing.T) {
	r := must(t, Broken, stoppedWith("--heartbeat", "500ms"), 0.5)
	for _, what := range []string{"links lost", "nodes removed by the master", "times the master was lost"} {
		if n, _ := r.Figure(what); n == 0 {
			t.Errorf("0 %s were counted", what)
		}
	}
}

// TestStartStopCanBreak leaves something behind in each round.
func TestStartStopCanBreak(t *testing.T) {
	var files []*os.File
	ended := make(chan struct{})
	var goroutines sync.WaitGroup
	defer func() {
		close(ended)
		goroutines.Wait()
		for _, f := range files {
			f.Close()
		}
	}()
	r := must(t, Broken, startStopWith(100*time.Millisecond, func(lab *Lab) error {
		goroutines.Go(func() { <-ended })
		f, err := os.Create(lab.Path(fmt.Sprint("left", len(files))))
		if err != nil {
			return err
		}
		files = append(files, f)
		_, err = lab.Exec("left", "sh", "-c", "sleep 600; : "+lab.Dir)
		return err
	}), 0.12)
	for what, least := range map[string]float64{"goroutines left": 3, "open files left": 3, "processes left": 3, "files left": 4} { // one is the log
		if n, _ := r.Figure(what); n < least {
			t.Errorf("%v %s, want %v at least", n, what, least)
		}
	}
}

// TestPartitionByProxies is what is done where there are no network namespaces.
func TestPartitionByProxies(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	t.Parallel() // it waits most of the time
	must(t, Held, partitionOver(proxies), 0.3)
}

// TestPartitionCanBreak has networks that heal later than they say.
func TestPartitionCanBreak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	t.Parallel()
	r := must(t, Broken, partitionOver(func(lab *Lab) (weaver, error) {
		w, err := proxies(lab)
		weave := w.weave
		w.weave = func(places int) (fabric, error) {
			f, err := weave(places)
			return lateFabric{f}, err
		}
		return w, err
	}), 0.3)
	if late, _ := r.Figure("not whole after 5s"); late == 0 {
		t.Error("no late one was counted")
	}
}

// lateFabric heals 8 s late.
type lateFabric struct{ fabric }

func (f lateFabric) heal() error {
	time.AfterFunc(8*time.Second, func() { _ = f.fabric.heal() })
	return nil
}

// TestSlowConsumerCanBreak allows no call to take any time and nobody to become larger, and measures twice.
func TestSlowConsumerCanBreak(t *testing.T) {
	t.Parallel()
	r := must(t, Broken, slowConsumerLimited(2, 1<<20, func(time.Duration) time.Duration { return 0 }), 0.3)
	if rounds, _ := r.Figure("rounds"); rounds != 2 {
		t.Errorf("%v rounds were measured", rounds)
	}
	told := strings.Join(r.Violations, "\n")
	for _, what := range []string{"the memory of flooder grew", "the bystander's p99", "the flooder's p99"} {
		if !strings.Contains(told, what) {
			t.Errorf("nothing is said of %s", what)
		}
	}
}
