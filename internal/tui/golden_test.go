package tui

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
	"github.com/meshctl/meshctl/internal/tui/tuitest"
)

// drawn are the pages that are drawn at all sizes and in all states, and how one gets to
// them: keys pressed one after the other, or a line for the command line after a ":".
// A page is added here by one line.
var drawn = []struct {
	name string
	keys []string
}{
	{"overview", []string{":overview"}},
	{"connections", []string{":connections"}},
	{"node", []string{":billing/1"}},
	{"links", []string{":links"}},
	{"pair", []string{":links", "enter"}},
	{"inflight", []string{":in flight"}},
	{"request", []string{":in flight", "down", "down", "enter"}},
	{"commands", []string{":commands"}},
	{"command", []string{":search.find"}},
	{"events", []string{":events"}},
	{"event", []string{":events", "enter"}},
	{"queues", []string{":queues"}},
	{"help", []string{":connections", "?"}},
}

var update = flag.Bool("update", false, "write testdata/*.golden anew")

type size struct{ w, h int }

var sizes = []size{{60, 15}, {80, 24}, {120, 40}, {200, 60}}

var states = []struct {
	name    string
	picture func() *inspect.Picture
	theme   string
}{
	{"empty", tuitest.Empty, "dark"},
	{"normal", func() *inspect.Picture { return tuitest.Picture(13, 60) }, "dark"},
	{"overfull", func() *inspect.Picture { return tuitest.Picture(500, 10_000) }, "dark"},
	{"disconnected", func() *inspect.Picture { return tuitest.Lost(13, 60) }, "light"},
	{"no colours", func() *inspect.Picture { return tuitest.Picture(13, 60) }, "mono"},
}

// dashboard is a root that shows one picture, for tests.
func dashboard(t testing.TB, p *inspect.Picture, theme string, s size) *root {
	t.Helper()
	o := Options{Theme: theme, Title: "127.0.0.1:4040", Masters: 1, Clock: tuitest.Now, WriteDir: t.TempDir()}
	r, err := newRoot(o, func(time.Time) *inspect.Picture { return p }, pages())
	if err != nil {
		t.Fatal(err)
	}
	r.Init()
	send(r, tea.ColorProfileMsg{Profile: colorprofile.TrueColor}, tea.WindowSizeMsg{Width: s.w, Height: s.h}, frameMsg{})
	return r
}

// send gives messages to the root, and what their commands answer; commands that take
// longer than a blink are not waited for.
func send(r *root, msgs ...tea.Msg) {
	for _, msg := range msgs {
		_, cmd := r.Update(msg)
		perform(r, cmd)
	}
}

func perform(r *root, cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	switch msg := cmd().(type) {
	case nil, tea.QuitMsg:
	case tea.BatchMsg:
		for _, c := range msg {
			perform(r, c)
		}
	default:
		send(r, msg)
	}
}

// press sends keys by their names, and lines for the command line after a ":".
func press(r *root, keys ...string) {
	for _, k := range keys {
		if line, ok := strings.CutPrefix(k, ":"); ok && line != "" {
			perform(r, r.command(line))
			continue
		}
		send(r, key(k))
	}
}

// key makes the message of a key from its name.
func key(name string) tea.KeyPressMsg {
	special := map[string]rune{
		"enter": tea.KeyEnter, "esc": tea.KeyEscape, "tab": tea.KeyTab, "up": tea.KeyUp, "down": tea.KeyDown,
		"left": tea.KeyLeft, "right": tea.KeyRight, "home": tea.KeyHome, "end": tea.KeyEnd, "pgup": tea.KeyPgUp,
		"pgdown": tea.KeyPgDown, "space": tea.KeySpace, "backspace": tea.KeyBackspace, "delete": tea.KeyDelete,
	}
	k := tea.Key{}
	for {
		if rest, ok := strings.CutPrefix(name, "ctrl+"); ok {
			k.Mod, name = k.Mod|tea.ModCtrl, rest
		} else if rest, ok := strings.CutPrefix(name, "shift+"); ok {
			k.Mod, name = k.Mod|tea.ModShift, rest
		} else {
			break
		}
	}
	if code, ok := special[name]; ok {
		k.Code = code
	} else {
		k.Code = []rune(name)[0]
		if k.Mod == 0 {
			k.Text = name
		}
	}
	return tea.KeyPressMsg(k)
}

// typeIn types text.
func typeIn(r *root, text string) {
	for _, c := range text {
		if c == ' ' {
			send(r, tea.KeyPressMsg{Code: tea.KeySpace, Text: " "})
			continue
		}
		press(r, string(c))
	}
}

func TestGolden(t *testing.T) {
	for _, d := range drawn {
		t.Run(d.name, func(t *testing.T) {
			var got strings.Builder
			for _, st := range states {
				for _, s := range sizes {
					r := dashboard(t, st.picture(), st.theme, s)
					press(r, d.keys...)
					lines := r.draw()
					checkFrame(t, lines, s)
					if st.theme == "mono" {
						checkColourless(t, lines)
					}
					fmt.Fprintf(&got, "== %s, %d×%d\n", st.name, s.w, s.h)
					for _, line := range lines {
						got.WriteString(screen.Plain(line) + "\n")
					}
				}
			}
			compare(t, filepath.Join("testdata", d.name+".golden"), got.String())
		})
	}
}

func compare(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) == got {
		return
	}
	w, g := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	where := ""
	for i := range g {
		if strings.HasPrefix(g[i], "== ") {
			where = g[i]
		}
		if i >= len(w) || w[i] != g[i] {
			old := ""
			if i < len(w) {
				old = w[i]
			}
			t.Fatalf("%s differs at line %d (%s)\nwas %s\nis  %s\nIf that is meant: go test ./internal/tui -run Golden -update", file, i+1, where, old, g[i])
		}
	}
	t.Fatalf("%s has more lines than are drawn", file)
}

// checkFrame checks that a frame fills its window, exactly.
func checkFrame(t *testing.T, lines []string, s size) {
	t.Helper()
	if len(lines) != s.h {
		t.Errorf("%d×%d: %d lines were drawn", s.w, s.h, len(lines))
	}
	for i, line := range lines {
		if w := ansi.StringWidth(line); w != s.w {
			t.Errorf("%d×%d: line %d is %d wide: %q", s.w, s.h, i, w, line)
		}
		if w := ansi.StringWidthWc(line); w > s.w {
			t.Errorf("%d×%d: line %d is %d wide for a terminal without grapheme clusters: %q", s.w, s.h, i, w, line)
		}
		if text := ansi.Strip(line); strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 }) {
			t.Errorf("%d×%d: line %d has control characters: %q", s.w, s.h, i, text)
		}
		if strings.Contains(ansi.Strip(line), "\x1b") || strings.Contains(line, "\x1b]") {
			t.Errorf("%d×%d: line %d has a sequence that is not ours: %q", s.w, s.h, i, line)
		}
	}
}

var colour = regexp.MustCompile(`\x1b\[[0-9;]*\b(3[0-9]|4[0-9]|9[0-7]|10[0-7])(;[0-9;]*)?m`)

func checkColourless(t *testing.T, lines []string) {
	t.Helper()
	for i, line := range lines {
		if seq := colour.FindString(line); seq != "" {
			t.Errorf("line %d has a colour: %q", i, seq)
		}
	}
}

// TestFramesFit draws every page in windows of many sizes, of random pictures with
// everything that a network may contain.
func TestFramesFit(t *testing.T) {
	widths := []int{1, 7, 59, 60, 61, 73, 80, 97, 120, 161, 200, 300}
	heights := []int{1, 2, 14, 15, 16, 24, 33, 60, 100}
	for _, d := range drawn {
		t.Run(d.name, func(t *testing.T) {
			seed := uint64(0)
			for _, w := range widths {
				for _, h := range heights {
					seed++
					r := dashboard(t, tuitest.Hostile(seed), "dark", size{w, h})
					press(r, d.keys...)
					checkFrame(t, r.draw(), size{w, h})
					press(r, "end", "s", "down", "up", "/")
					checkFrame(t, r.draw(), size{w, h})
					if t.Failed() {
						t.Fatalf("seed %d", seed)
					}
				}
			}
		})
	}
}

func BenchmarkFrame(b *testing.B) {
	for _, d := range drawn {
		for _, s := range []size{{120, 40}, {200, 60}} {
			b.Run(fmt.Sprintf("%s/%d×%d", d.name, s.w, s.h), func(b *testing.B) {
				r := dashboard(b, tuitest.Picture(500, 10_000), "dark", s)
				press(r, d.keys...)
				b.ReportAllocs()
				for b.Loop() {
					send(r, frameMsg{})
					_ = r.View()
				}
			})
		}
	}
}
