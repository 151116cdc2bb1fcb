package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/certs/certstest"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run this test's binary as meshctl, in processes of their own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"meshctl": func() {
			app := NewApp(Build{Version: "1.2.3-test"})
			app.completionTime = patience
			os.Exit(Main(context.Background(), app, os.Args[1:]))
		},
	})
}

// patience bounds waits for conditions; on a loaded machine they take long.
const patience = 60 * time.Second

func TestScripts(t *testing.T) {
	ca := certstest.NewCA(t)
	cert, key := ca.Issue(t, "member", 24*time.Hour)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, "home")
			e.Setenv("HOME", home)
			e.Setenv("CA", ca.File)
			e.Setenv("CERT", cert)
			e.Setenv("CERTKEY", key)
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
			e.Setenv("XDG_STATE_HOME", filepath.Join(home, "state"))
			e.Setenv("CONFIG", filepath.Join(home, "config", "meshctl"))
			// A loaded machine is no reason to fail; what times out says so itself.
			e.Setenv("MESHCTL_TIMEOUT", patience.String())
			if runtime.GOOS == "darwin" {
				e.Setenv("CONFIG", filepath.Join(home, "Library", "Application Support", "meshctl"))
			}
			return os.MkdirAll(home, 0o700)
		},
		Condition: func(name string) (bool, error) {
			if name != "discovery-port-free" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			l, err := net.Listen("tcp", ":8765")
			if err != nil {
				return false, nil
			}
			return true, l.Close()
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     scriptExits,
			"until":     scriptUntil,
			"getaddr":   scriptAddress,
			"mode":      scriptMode,
			"isjson":    scriptJSON,
			"jsonlines": scriptJSONLines,
			"occupy":    scriptOccupy,
		},
	})
}

// exits CODE PROGRAM ARGS… runs a program that has to end with that exit code.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGS]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// until PROGRAM ARGS… runs a program again until it succeeds.
func scriptUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: until PROGRAM [ARGS]")
	}
	await(ts, strings.Join(args, " "), func() bool { return ts.Exec(args[0], args[1:]...) == nil })
}

// getaddr VAR FILE waits for a file of --dump-address, and puts its text into VAR.
func scriptAddress(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: getaddr VAR FILE")
	}
	var data []byte
	await(ts, args[1], func() bool {
		var err error
		data, err = os.ReadFile(ts.MkAbs(args[1]))
		return err == nil
	})
	ts.Setenv(args[0], strings.TrimSpace(string(data)))
}

func await(ts *testscript.TestScript, what string, done func() bool) {
	for start := time.Now(); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > patience {
			ts.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// mode OCTAL FILE… checks permissions.
func scriptMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mode OCTAL FILE…")
	}
	for _, file := range args[1:] {
		st, err := os.Stat(ts.MkAbs(file))
		ts.Check(err)
		if got := fmt.Sprintf("%o", st.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", file, got, args[0])
		}
	}
}

// isjson FILE checks that a file (or stdout) is one JSON value.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: isjson FILE")
	}
	if json.Valid([]byte(ts.ReadFile(args[0]))) == neg {
		ts.Fatalf("%s: valid JSON is %t", args[0], neg)
	}
}

// jsonlines FILE checks that each line of a file (or stderr) is a JSON object, and that there
// is one.
func scriptJSONLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: jsonlines FILE")
	}
	text := ts.ReadFile(args[0])
	if text == "" {
		ts.Fatalf("%s is empty", args[0])
	}
	for line := range strings.Lines(text) {
		if err := json.Unmarshal([]byte(line), new(map[string]any)); err != nil {
			ts.Fatalf("%s: %v: %s", args[0], err, line)
		}
	}
}

// occupy VAR [HOST] holds a port until the script ends and puts its number into VAR. Whoever
// connects to it hears nothing.
func scriptOccupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: occupy VAR [HOST]")
	}
	l, err := net.Listen("tcp", strings.Join(args[1:], "")+":0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], strconv.Itoa(portOf(l.Addr())))
}
