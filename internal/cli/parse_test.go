package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/bounded"
	"github.com/meshctl/meshctl/internal/config"
	"github.com/spf13/cobra"
)

// testApp is an App with an empty environment and nothing to read.
func testApp(t *testing.T) *App {
	t.Helper()
	home := t.TempDir()
	return &App{
		In: strings.NewReader(""), Out: io.Discard, Err: io.Discard,
		Env: config.Environment{
			LookupEnv:     func(string) (string, bool) { return "", false },
			UserConfigDir: func() (string, error) { return home, nil },
			WorkDir:       t.TempDir(),
		},
		Build: Build{Version: "test"},
	}
}

// parse runs a command below a root, which has the flags that all share.
func parse(cmd *cobra.Command, args ...string) error {
	root := &cobra.Command{Use: "meshctl", SilenceErrors: true, SilenceUsage: true}
	root.PersistentFlags().String("config", "", "")
	root.AddCommand(cmd)
	root.SetArgs(append([]string{cmd.Name()}, args...))
	return root.Execute()
}

func TestParseCall(t *testing.T) {
	var got *callOptions
	run := func(_ context.Context, o *callOptions) error { got = o; return nil }
	err := parse(newCmdCall(testApp(t), run), "w.c", "-d", `{"a":1}`, "-t", "5s", "--only", "a, b", "--expect", "50%", "-o", "raw", "--master", "m:1", "--as", "x")
	if err != nil {
		t.Fatal(err)
	}
	if got.worker != "w" || got.command != "c" || got.data != `{"a":1}` || got.cfg.Timeout != 5*time.Second ||
		strings.Join(got.only, "|") != "a|b" || got.exclude != nil || *got.expect != (expectation{percent: 50}) ||
		got.output != formatRaw || got.cfg.Master != "m:1" || got.cfg.As != "x" {
		t.Errorf("parsed %+v", got)
	}
	got = nil
	if err := parse(newCmdCall(testApp(t), run), "w.c"); err != nil {
		t.Fatal(err)
	}
	if got.only != nil || got.expect != nil || got.output != "" || got.cfg.Timeout != 3*time.Second {
		t.Errorf("parsed %+v", got)
	}
}

func TestParseJoin(t *testing.T) {
	var got *joinOptions
	run := func(_ context.Context, o *joinOptions) error { got = o; return nil }
	app := testApp(t)
	app.Env.LookupEnv = func(name string) (string, bool) {
		v, ok := map[string]string{"MESHCTL_WORKER": "from-env", "MASTER_HOST": "m", "MASTER_SOCKET_PORT": "9"}[name]
		return v, ok
	}
	if err := parse(newCmdJoin(app, run)); err != nil {
		t.Fatal(err)
	}
	if got.worker != "from-env" || got.cfg.Master != "m:9" {
		t.Errorf("worker %q, master %q", got.worker, got.cfg.Master)
	}
	if err := parse(newCmdJoin(app, run), "arg", "--drain-timeout", "1m"); err != nil {
		t.Fatal(err)
	}
	if got.worker != "arg" || got.cfg.DrainTimeout != time.Minute {
		t.Errorf("worker %q, drain %s", got.worker, got.cfg.DrainTimeout)
	}
	var usage *usageError
	if err := parse(newCmdJoin(app, run), "constructor"); !errors.As(err, &usage) {
		t.Errorf("the worker constructor gives %v", err)
	}
}

func TestExpectation(t *testing.T) {
	for _, tc := range []struct {
		text        string
		total, want int
	}{
		{"all", 3, 3}, {"1", 3, 1}, {"5", 3, 5}, {"50%", 3, 2}, {"50%", 4, 2}, {"1%", 4, 1}, {"51%", 2, 2},
	} {
		e, err := parseExpectation(tc.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.of(tc.total); got != tc.want {
			t.Errorf("%s of %d is %d, want %d", tc.text, tc.total, got, tc.want)
		}
		if e.String() != tc.text {
			t.Errorf("%s is written %s", tc.text, e)
		}
	}
	for _, text := range []string{"", "0", "-1", "+1", "0%", "101%", "x", "1.5", "%"} {
		if e, err := parseExpectation(text); err == nil {
			t.Errorf("%q is %+v, want an error", text, e)
		}
	}
}

func TestWantsJSON(t *testing.T) {
	for text, want := range map[string]bool{
		"call -o json": true, "call -ojson": true, "call --output json": true, "call --output=json": true, "call -o=json": true,
		"call -o yaml": false, "call": false, "call -o": false, "call -- -o json": false, "call -o json -o yaml": false, "": false,
	} {
		if got := wantsJSON(strings.Fields(text)); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}

func TestPayloadProblems(t *testing.T) {
	for _, tc := range []struct{ data, want string }{
		{`{"a":}`, "line 1, column 6"}, {"{\n  x\n}", "line 2, column 3"}, {`{"é":x}`, "line 1, column 6"}, {`{} {}`, "line 1, column 4"},
		{`'{"a":1}'`, "line 1, column 1"}, {"{", "unexpected end"}, {" ", "is empty"}, {"\xff", "not UTF-8"},
	} {
		err := checkJSON("-d", []byte(tc.data))
		var usage *usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.data, err, tc.want)
		}
	}
	if err := checkJSON("-d", []byte(" null\n")); err != nil {
		t.Error(err)
	}
}

func TestPayloadLimit(t *testing.T) {
	app := testApp(t)
	app.In = strings.NewReader(`"` + strings.Repeat("x", 2000) + `"`)
	cfg, err := config.Load(app.Env, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxPayload = 1024
	opts := &callOptions{app: app, cfg: cfg, data: "-"}
	if _, err := opts.payload(t.Context()); !errors.Is(err, bounded.ErrTooLarge) {
		t.Errorf("2000 bytes over a limit of 1024 give %v", err)
	}
	// stdin that says nothing does not hold up Ctrl-C.
	silent, _ := io.Pipe()
	app.In = silent
	t.Cleanup(func() { silent.Close() })
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errInterrupted)
	if _, err := opts.payload(ctx); !errors.Is(err, errInterrupted) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestTerminalsAreSafe(t *testing.T) {
	const hostile = "a\x1b[2Jb\u009bc\u202ed\x07"
	var out bytes.Buffer
	if err := writeTable(&out, []string{"X"}, [][]string{{hostile}}); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(&out, hostile, true); err != nil {
		t.Fatal(err)
	}
	app := testApp(t)
	app.Err = &out
	app.report(errors.New(hostile), false)
	for _, r := range []string{"\x1b", "\u009b", "\x07"} {
		if strings.Contains(out.String(), r) {
			t.Errorf("%q reaches the terminal: %q", r, out.String())
		}
	}
}

func TestYAMLKeepsValues(t *testing.T) {
	var out bytes.Buffer
	if err := writeYAML(&out, []byte(`{"z":"1","a":[1,1.5,1e30,true,null,{}],"s":"yes","t":"a\nb","e":"😀","empty":[]}`)); err != nil {
		t.Fatal(err)
	}
	const want = `z: "1"
a:
  - 1
  - 1.5
  - 1e30
  - true
  - null
  - {}
s: "yes"
t: |-
  a
  b
e: "\U0001F600"
empty: []
`
	if out.String() != want {
		t.Errorf("got:\n%s", out.String())
	}
}

func TestEveryCodeHasAnExitCode(t *testing.T) {
	seen := map[int]bool{}
	for _, row := range exitCodes() {
		if seen[row.exit] {
			t.Errorf("%d is in the table twice", row.exit)
		}
		seen[row.exit] = true
		for _, c := range row.codes {
			if exitOf(c) != row.exit {
				t.Errorf("%s is in the table twice", c)
			}
		}
	}
	if exitOf("something_new") != exitFailure {
		t.Error("a code that is not in the table is not a failure")
	}
}
