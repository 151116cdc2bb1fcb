//go:build unix

package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// program is the built meshctl.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "meshctl-chaos-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "meshctl")
		if out, err := exec.Command("go", "build", "-o", program, "../../cmd/meshctl").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// must runs the short form of a scenario, and gives the result.
func must(t *testing.T, verdict Verdict, s Scenario, scale float64) Result {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir()) // where the folders of those are that did not hold
	results, err := Run(t.Context(), Options{Scenarios: []Scenario{s}, Scale: scale, Seed: 1, Program: program})
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
	r := must(t, Broken, stoppedWith("--heartbeat", "500ms"), 0.25)
	if lost, _ := r.Figure("links lost"); lost == 0 {
		t.Error("no lost link was counted")
	}
}

// TestPartitionByProxies is what is done where there are no network namespaces.
func TestPartitionByProxies(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	must(t, Held, partitionOver(proxies), 0.3)
}

// TestPartitionCanBreak has networks that heal later than they say.
func TestPartitionCanBreak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
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

// TestSlowConsumerCanBreak allows nobody to become slower or larger.
func TestSlowConsumerCanBreak(t *testing.T) {
	r := must(t, Broken, slowConsumerLimited(1<<20, func(before time.Duration) time.Duration { return before / 100 }), 0.3)
	if rounds, _ := r.Figure("rounds"); rounds != slowRounds {
		t.Errorf("%v rounds were measured", rounds)
	}
	told := strings.Join(r.Violations, "\n")
	for _, what := range []string{"the memory of flooder grew", "the bystander's p99", "the flooder's p99"} {
		if !strings.Contains(told, what) {
			t.Errorf("nothing is said of %s", what)
		}
	}
}
