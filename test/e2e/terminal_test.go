//go:build unix

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// terminal is a tmux session with meshctl in it, on a tmux server of its own.
type terminal struct {
	t      *testing.T
	socket string
}

// openTerminal runs a shell command in a terminal of the given size. The test is skipped
// where there is no tmux.
func openTerminal(t *testing.T, dir string, width, height int, command string) *terminal {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("SKIPPED: tmux is not installed (apt-get install tmux)")
	}
	term := &terminal{t, filepath.Join(dir, "tmux.sock")}
	args := []string{"-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height)}
	for _, v := range environ(dir) {
		if strings.HasPrefix(v, "MESHCTL_") || strings.HasPrefix(v, "XDG_") || strings.HasPrefix(v, "HOME=") {
			args = append(args, "-e", v)
		}
	}
	// The shell stays when the command has ended, so that what it left can be looked at.
	term.tmux(append(args, fmt.Sprintf(`sh -c 'echo $$ >%s; exec %s'; echo "exit=$?"; exec cat`, term.pidFile(), command))...)
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", term.socket, "kill-server").Run() })
	return term
}

func (x *terminal) tmux(args ...string) string {
	x.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", x.socket}, args...)...).CombinedOutput()
	if err != nil {
		x.t.Fatalf("tmux %s: %v\n%s", args[0], err, out)
	}
	return string(out)
}

func (x *terminal) pidFile() string { return x.socket + ".pid" }

// pid is the command's.
func (x *terminal) pid() int {
	x.t.Helper()
	text, err := os.ReadFile(x.pidFile())
	if err != nil {
		x.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		x.t.Fatal(err)
	}
	return pid
}

// signal sends a signal to the command.
func (x *terminal) signal(s syscall.Signal) {
	x.t.Helper()
	if err := syscall.Kill(x.pid(), s); err != nil {
		x.t.Fatal(err)
	}
}

func (x *terminal) screen() string { x.t.Helper(); return x.tmux("capture-pane", "-p") }

func (x *terminal) send(keys ...string) {
	x.t.Helper()
	x.tmux(append([]string{"send-keys"}, keys...)...)
}

func (x *terminal) resize(width, height int) {
	x.t.Helper()
	x.tmux("resize-window", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height))
}

// await waits until the screen is as wanted, and says how long that took.
func (x *terminal) await(what string, wanted func(screen string) bool) time.Duration {
	x.t.Helper()
	const patience = time.Minute
	began := time.Now()
	for {
		screen := x.screen()
		if wanted(screen) {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			x.t.Fatalf("the screen never showed %s:\n%s", what, screen)
		}
		time.Sleep(5 * time.Millisecond) // another program draws: there is nothing to wait on
	}
}

func (x *terminal) awaitText(texts ...string) time.Duration {
	x.t.Helper()
	return x.await(fmt.Sprintf("%q", texts), func(screen string) bool {
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return false
			}
		}
		return true
	})
}

// awaitClean waits until the program has ended with a code, and checks that the terminal
// is as it was before.
func (x *terminal) awaitClean(code int) {
	x.t.Helper()
	x.awaitText(fmt.Sprintf("exit=%d", code))
	modes := x.tmux("display-message", "-p", "alternate=#{alternate_on} cursor=#{cursor_flag} mouse=#{mouse_any_flag} keypad=#{keypad_flag}")
	if want := "alternate=0 cursor=1 mouse=0 keypad=0\n"; modes != want {
		x.t.Errorf("the terminal was left with %s, want %s", modes, want)
	}
	tty := strings.TrimSpace(x.tmux("display-message", "-p", "#{pane_tty}"))
	settings, err := exec.Command("stty", "-F", tty, "-a").CombinedOutput()
	if err != nil {
		x.t.Fatalf("stty: %v\n%s", err, settings)
	}
	for _, want := range []string{"echo", "icanon", "opost"} {
		if !slices.Contains(strings.Fields(string(settings)), want) {
			x.t.Errorf("the terminal was left without %s:\n%s", want, settings)
		}
	}
}

// line is the first line of the screen with a text in it, "" where there is none.
func line(screen, text string) string {
	for l := range strings.Lines(screen) {
		if strings.Contains(l, text) {
			return strings.TrimRight(l, "\n")
		}
	}
	return ""
}
