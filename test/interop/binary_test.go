package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
)

// builder builds the meshctl command once for all tests.
type builder struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func (b *builder) build(t testing.TB) string {
	t.Helper()
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "meshctl-interop-"); b.err != nil {
			return
		}
		b.path, b.err = meshtest.Program(b.dir)
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

// process is a meshctl that runs until it is killed. It reports lines of its log.
type process struct {
	*eventLog
	cmd  *exec.Cmd
	port int // of a master
}

// meshctl prepares a command that shares nothing but the keys with others, and is as patient as the tests.
func meshctl(ctx context.Context, t testing.TB, k keys, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, meshctlBinary.build(t), args...)
	home := t.TempDir()
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + home,
		"MESHCTL_PUBLIC_KEY=" + k.public, "MESHCTL_PRIVATE_KEY=" + k.private,
		"MESHCTL_TIMEOUT=" + patience.String(), "MESHCTL_HEARTBEAT=" + heartbeat.String(),
	}
	cmd.Dir = home
	return cmd
}

func start(t testing.TB, name string, k keys, args ...string) *process {
	t.Helper()
	p := &process{eventLog: newEventLog(t, name), cmd: meshctl(context.Background(), t, k, args...)}
	output, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			p.add(event{Event: "log", line: scanner.Text()})
		}
		_ = p.cmd.Wait() // it is killed
		p.end()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", p.name, p.eventLog)
		}
	})
	return p
}

// kill ends the process with SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.ended
}

func schemaFile(t testing.TB, o options) string {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serveMaster runs `meshctl serve-master` and waits for it to listen.
func serveMaster(t testing.TB, k keys, schema options, port int, more ...string) *process {
	t.Helper()
	dump := filepath.Join(t.TempDir(), "address")
	p := start(t, "meshctl serve-master", k, append([]string{"serve-master", "--schema", schemaFile(t, schema),
		"--host", "127.0.0.1", "--port", strconv.Itoa(port), "--discovery-port", "0", "--dump-address", dump}, more...)...)
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(dump)
		if _, number, splitErr := net.SplitHostPort(string(bytes.TrimSpace(text))); err == nil && splitErr == nil {
			if p.port, err = strconv.Atoi(number); err == nil {
				return p
			}
		}
		select {
		case <-p.ended:
			t.Fatalf("the master ended; its address file has %q", text)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("no address: %q, %v", text, err)
		}
	}
}

// join runs `meshctl join`.
func join(t testing.TB, k keys, schema options, master int, worker, variant string) *process {
	t.Helper()
	return start(t, "meshctl join "+worker+"/"+variant, k, "join", worker, "--variant", variant,
		"--master", fmt.Sprintf("127.0.0.1:%d", master), "--schema", schemaFile(t, schema))
}

// run runs meshctl to its end, and returns its output and exit code.
func run(t testing.TB, k keys, args ...string) (stdout []byte, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := meshctl(ctx, t, k, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	t.Logf("meshctl %v: exit code %d\n%s%s", args, cmd.ProcessState.ExitCode(), stdout, &stderr)
	return stdout, cmd.ProcessState.ExitCode()
}
