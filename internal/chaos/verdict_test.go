//go:build unix

package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
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

// mustBreak runs the short form of a scenario in which what it has to show cannot hold, and gives
// the result.
func mustBreak(t *testing.T, s Scenario, scale float64) Result {
	t.Helper()
	results, err := Run(t.Context(), Options{Scenarios: []Scenario{s}, Scale: scale, Seed: 1, Program: program})
	if err != nil {
		t.Fatal(err)
	}
	r := results[0]
	if r.Folder != "" {
		_ = os.RemoveAll(filepath.Dir(r.Folder)) // it was kept
	}
	t.Logf("%s: %s; %s", r.Verdict, r.Measured(), r.Violations)
	if r.Verdict != Broken {
		t.Errorf("the verdict is %s (%s)", r.Verdict, r.Reason)
	}
	return r
}

// TestStoppedCanBreak has peers that are taken for lost after less than they are stopped.
func TestStoppedCanBreak(t *testing.T) {
	r := mustBreak(t, stoppedWith("--heartbeat", "500ms"), 0.25)
	if lost, _ := r.Figure("links lost"); lost == 0 {
		t.Error("no lost link was counted")
	}
}
