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
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/meshctl/meshctl/internal/chaos"
	"github.com/meshctl/meshctl/internal/mesh/meshtest"
)

// binary is the built meshctl.
var binary string

func TestMain(m *testing.M) { meshtest.MainWithProgram(m, &binary) }

// figures are what a run must have measured besides its verdict, so that none holds because
// nothing happened: at least so much.
func figures(scenario string) map[string]float64 {
	return map[string]map[string]float64{
		"queue-file":    {"accepted": 5000, "kills of nodes": 1, "kills of callers": 1},
		"queue-redis":   {"accepted": 4000, "kills of nodes": 1, "kills of callers": 1, "kills of redis-server": 1},
		"damage":        {"kills of a handler": 4, "jobs meanwhile": 10, "files cut off": 14, "jobs in them": 14 * 120},
		"master-kill":   {"kills": 3, "nodes": 50, "calls": 100, "of them while the master was away": 1},
		"start-stop":    {"starts": 50, "of them killed": 3},
		"stopped":       {"stops": 12, "calls": 100},
		"partition":     {"links": 60},
		"slow-consumer": {"overloaded": 1, "calls of the flood accepted": 100},
		"soak":          {"nodes": 50, "kills of half the crowd": 1, "calls": 100, "jobs": 10, "broadcasts": 1},
	}[scenario]
}

// zeros are figures that must have been measured, and be 0.
func zeros(scenario string) []string {
	return map[string][]string{
		"queue-file":    {"lost"},
		"queue-redis":   {"lost"},
		"master-kill":   {"calls lost", "links dropped"},
		"start-stop":    {"goroutines left", "open files left", "master's goroutines left", "processes left", "files left"},
		"stopped":       {"links lost", "nodes removed by the master", "times the master was lost", "calls failed"},
		"partition":     {"not whole after 5s"},
		"slow-consumer": {"links lost"},
		"soak":          {"other failures"},
	}[scenario]
}

// waiting are scenarios that wait for most of the time and judge no times of a second or less: they run at the same time.
var waiting = []string{"partition", "soak"}

func TestScenarios(t *testing.T) {
	for _, s := range chaos.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			if slices.Contains(waiting, s.Name) {
				t.Parallel()
			}
			tmp := shortTempDir(t)
			r := run(t, tmp, s.Name)
			for try := 1; try < 3 && tooBusy(r); try++ {
				t.Log(r.Reason)
				if err := os.RemoveAll(filepath.Dir(r.Folder)); err != nil {
					t.Fatal(err)
				}
				r = run(t, tmp, s.Name)
			}
			t.Logf("%.0fs: %s", r.Seconds, r.Measured())
			if r.Verdict == chaos.Skipped || tooBusy(r) {
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
			for _, name := range zeros(s.Name) {
				if got, ok := r.Figure(name); !ok || got != 0 {
					t.Errorf("%s: %g, and measured: %v, but it held", name, got, ok)
				}
			}
			if left, _ := os.ReadDir(tmp); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

// tooBusy tells whether a scenario says that nothing can be judged on this machine, because it does something else at present.
func tooBusy(r chaos.Result) bool {
	return r.Verdict == chaos.Failed && strings.Contains(r.Reason, "too busy")
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
	cmd, ended := begin(t, tmp, "soak", 5)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := meshtest.Await(t, ended, "the run to end")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Errorf("it ended with %v", err)
	}
	if left := processesOf(t, tmp); len(left) > 0 {
		t.Errorf("it left processes:\n%s", strings.Join(left, "\n"))
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

// Nor does kill -9 leave any process behind: master, nodes with their programs, callers, redis-server where there is one, and
// those that are frozen.
func TestKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends processes with whoever started them")
	}
	scenarios := map[string]int{"stopped": 7} // processes
	if _, err := exec.LookPath("redis-server"); err == nil {
		scenarios["queue-redis"] = 8
	} else {
		scenarios["queue-file"] = 5
	}
	for scenario, processes := range scenarios {
		t.Run(scenario, func(t *testing.T) {
			tmp := shortTempDir(t)
			cmd, ended := begin(t, tmp, scenario, processes)
			if scenario == "stopped" {
				meshtest.WaitFor(t, func() bool {
					return slices.ContainsFunc(processesOf(t, tmp), func(p string) bool { return strings.HasPrefix(p, "T") })
				}, func() string { return "a process to be frozen" })
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			meshtest.Await(t, ended, "the run to end")
			var left []string
			meshtest.WaitFor(t, func() bool { left = processesOf(t, tmp); return len(left) == 0 }, func() string {
				return "the end of\n" + strings.Join(left, "\n")
			})
		})
	}
}

// begin runs a scenario in its long form until the test ends, and waits until it has started so many processes.
func begin(t *testing.T, tmp, scenario string, processes int) (cmd *exec.Cmd, ended chan error) {
	t.Helper()
	cmd = exec.Command(binary, "chaos", "run", scenario, "--long")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended = make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	meshtest.WaitFor(t, func() bool { return len(processesOf(t, tmp)) >= processes }, func() string {
		return fmt.Sprintf("%d processes to be started:\n%s", processes, strings.Join(processesOf(t, tmp), "\n"))
	})
	return cmd, ended
}

// processesOf are the states and ids of the processes of a run with this temporary folder: they have its folder in
// their command lines or environments.
func processesOf(t *testing.T, tmp string) (found []string) {
	t.Helper()
	out, err := exec.Command("ps", "axeww", "-o", "state,pid,command").Output()
	if err != nil {
		t.Skipf("ps cannot list processes: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, tmp+"/meshctl-chaos-") && !strings.HasPrefix(line, "Z") {
			found = append(found, line[:min(len(line), 80)])
		}
	}
	return found
}
