//go:build unix

// Package chaos runs the scenarios of meshctl chaos in their short form, by the built binary. The long
// forms are for `make chaos`.
package chaos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/chaos"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
)

// binary is the built meshctl.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "meshctl-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "meshctl")
		if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/meshctl").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// figures are what a run must have measured besides its verdict, so that none holds because
// nothing happened: at least so much.
func figures(scenario string) map[string]float64 {
	return map[string]map[string]float64{
		"queue-file":    {"accepted": 5000, "kills of nodes": 1, "kills of callers": 1},
		"queue-redis":   {"accepted": 4000, "kills of nodes": 1, "kills of callers": 1, "kills of redis-server": 1},
		"damage":        {"kills of a handler": 4, "jobs meanwhile": 10, "files cut off": 14, "jobs in them": 14 * 120},
		"master-kill":   {"kills": 3, "nodes": 50, "calls": 100},
		"start-stop":    {"starts": 50, "of them killed": 3},
		"stopped":       {"stops": 12, "calls": 100},
		"partition":     {"links": 60},
		"slow-consumer": {"overloaded": 1, "calls of the flood accepted": 100},
		"soak":          {"nodes": 50, "kills of half the crowd": 1, "calls": 100, "jobs": 10, "broadcasts": 1},
	}[scenario]
}

// zero are figures that must be 0.
var zero = []string{"lost", "calls lost", "links dropped", "goroutines left", "open files left", "master's goroutines left", "processes left", "files left", "other failures",
	"links lost", "nodes removed by the master", "times the master was lost", "calls failed", "not whole after 5s"}

func TestScenarios(t *testing.T) {
	for _, s := range chaos.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			tmp := shortTempDir(t)
			r := run(t, tmp, s.Name)
			t.Logf("%.0fs: %s", r.Seconds, r.Measured())
			if r.Verdict == chaos.Skipped {
				t.Skip(r.Reason)
			}
			if r.Verdict != chaos.Held {
				t.Fatalf("%s: %s\n%s\n%s", r.Verdict, r.Reason, strings.Join(r.Violations, "\n"), logs(r.Folder))
			}
			for name, least := range figures(s.Name) {
				if got, ok := r.Figure(name); !ok || got < least {
					t.Errorf("%s: %g, want %g at least", name, got, least)
				}
			}
			for _, f := range r.Figures {
				if slices.Contains(zero, f.Name) && f.Value != 0 {
					t.Errorf("%s, but it held", f)
				}
			}
			if left, _ := os.ReadDir(tmp); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

// run runs a scenario in its short form.
func run(t *testing.T, tmp, scenario string, flags ...string) chaos.Result {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"chaos", "run", scenario, "--short", "-o", "json"}, flags...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var output struct {
		Seed    uint64         `json:"seed"`
		Results []chaos.Result `json:"results"`
	}
	if json.Unmarshal(out, &output) != nil || len(output.Results) != 1 {
		t.Fatalf("meshctl chaos run %s: %v\n%s%s", scenario, err, out, &stderr)
	}
	t.Logf("seed %d", output.Seed)
	if held := output.Results[0].Verdict == chaos.Held || output.Results[0].Verdict == chaos.Skipped; held != (err == nil) {
		t.Errorf("it ended with %v, and the verdict is %s", err, output.Results[0].Verdict)
	}
	if stderr.Len() > 0 {
		t.Errorf("without a terminal it wrote to stderr: %s", &stderr)
	}
	return output.Results[0]
}

// logs are the ends of what the processes of a scenario logged, since its folder does not outlast the test.
func logs(folder string) string {
	const most = 4000
	files, _ := filepath.Glob(filepath.Join(folder, "*.log"))
	var b strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			text = []byte(err.Error())
		}
		fmt.Fprintf(&b, "--- %s\n%s\n", filepath.Base(f), text[max(0, len(text)-most):])
	}
	return b.String()
}

// shortTempDir is a folder for sockets, whose paths have to be short.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "chaos")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Ctrl-C ends a run with everything that it has started, and leaves no folder.
func TestInterrupted(t *testing.T) {
	tmp := shortTempDir(t)
	cmd := exec.Command(binary, "chaos", "run", "soak")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	processes := func() string {
		// Those that were started have the folder in their command lines, or in their environment.
		out, err := exec.Command("ps", "axeww", "-o", "pid,command").Output()
		if err != nil {
			t.Skipf("ps cannot list processes: %v", err)
		}
		var found []string
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, tmp+"/meshctl-chaos-") {
				found = append(found, strings.TrimSpace(line)[:60])
			}
		}
		return strings.Join(found, "\n")
	}
	meshtest.WaitFor(t, func() bool { return strings.Count(processes(), "\n") >= 4 }, func() string { return "processes to be started: " + processes() })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 130 {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it did not end")
	}
	if left := processes(); left != "" {
		t.Errorf("it left processes:\n%s", left)
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}
