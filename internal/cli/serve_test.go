package cli

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/master"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"go.uber.org/goleak"
)

// TestMountedSchemaIsReadAgain replaces a schema as Kubernetes does: the file is a
// link through ..data, which is swapped as a whole.
func TestMountedSchemaIsReadAgain(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows needs a privilege for symbolic links")
	}
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("os/signal.loop"))
	dir := t.TempDir()
	version := func(name, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "schema.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", "a: {_allow: anyNode}\n")
	path := filepath.Join(dir, "schema.yaml")
	if err := os.Symlink(filepath.Join("..data", "schema.yaml"), path); err != nil {
		t.Fatal(err)
	}
	first, err := loadSchema(path)
	if err != nil {
		t.Fatal(err)
	}
	applied := make(chan *schema.Schema, 4)
	w, err := newSchemaWatcher(path, first, func(s *schema.Schema) error { applied <- s; return nil }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.run(ctx) }()
	for _, next := range []string{"b", "c"} { // twice: the second folder was not there when watching began
		version("..v"+next, next+": {_allow: anyNode}\n")
		if s := <-applied; s.Workers[next] == nil {
			t.Errorf("applied %v, want %s", s.WorkerNames(), next)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestHealth(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("os/signal.loop"))
	var ready atomic.Bool
	scraped := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "meshctl_ready 1") })
	h, err := listenHealth("127.0.0.1:0", func() (bool, any) { return ready.Load(), map[string]bool{"ready": ready.Load()} }, scraped, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.run(ctx) }()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string, want int, body string) {
		t.Helper()
		resp, err := client.Get("http://" + h.addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var got bytes.Buffer
		if _, err := got.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want || !strings.Contains(got.String(), body) {
			t.Errorf("%s: %d %s, want %d with %s", path, resp.StatusCode, got.String(), want, body)
		}
	}
	get("/healthz", 200, `"ok"`)
	get("/readyz", 503, `{"ready":false}`)
	ready.Store(true)
	get("/readyz", 200, `{"ready":true}`)
	get("/metrics", 200, "meshctl_ready 1")
	get("/other", 404, "")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestHooks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the hook is a shell script")
	}
	t.Setenv("MESHCTL_PRIVATE_KEY", "hidden")
	dir := t.TempDir()
	script := filepath.Join(dir, "hook.sh")
	text := "#!/bin/sh\ncat >" + filepath.Join(dir, "input") + "\necho \"key=$MESHCTL_PRIVATE_KEY\"\nexit 3\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	h, err := newHooks(&config.Config{OnConnection: script})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	h.log = slog.New(slog.NewTextHandler(&log, nil))
	bound := h.bind(t.Context())
	if bound.OnConnected != nil || bound.OnDisconnection != nil {
		t.Error("hooks that were not asked for are there")
	}
	bound.OnConnection(wire.Peer{Worker: "w", Variant: "v", IP: "10.0.0.1", Port: 7})
	input, err := os.ReadFile(filepath.Join(dir, "input"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"event":"connection","worker":"w","variant":"v","ip":"10.0.0.1","port":7,"kind":"javascript"}` + "\n"
	if string(input) != want {
		t.Errorf("the hook read %s, want %s", input, want)
	}
	if text := log.String(); !strings.Contains(text, "exit status 3") || !strings.Contains(text, "output=key=") && !strings.Contains(text, `output="key="`) {
		t.Errorf("the log says %s", text)
	}
	if _, err := newHooks(&config.Config{OnConnected: filepath.Join(dir, "none")}); err == nil {
		t.Error("a hook that does not exist was taken")
	}
}

func TestTail(t *testing.T) {
	tl := &tail{limit: 4}
	for _, s := range []string{"a", "bcdefgh", "", "ij"} {
		if n, err := tl.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	if tl.String() != "ghij" {
		t.Errorf("kept %q", tl.String())
	}
}

func TestHealthSaysWhatIsMissing(t *testing.T) {
	sch, err := loadSchema("")
	if err != nil {
		t.Fatal(err)
	}
	keys := seal.Keys{Private: "a key of this test", Public: "another of this test"}
	n, err := node.New(node.Config{Keys: keys, Worker: "worker", Schema: sch})
	if err != nil {
		t.Fatal(err)
	}
	m, err := master.New(master.Config{Keys: keys, Schema: sch})
	if err != nil {
		t.Fatal(err)
	}
	for want, health := range map[string]func() (bool, any){
		"not declared at a master": func() (bool, any) { return nodeHealth(n) },
		"does not listen yet":      func() (bool, any) { return masterHealth(m) },
	} {
		ok, body := health()
		if reason, _ := body.(map[string]any)["reason"].(string); ok || !strings.Contains(reason, want) {
			t.Errorf("ready: %v, %v; want the reason %q", ok, body, want)
		}
	}
}
