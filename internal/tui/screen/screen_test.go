package screen

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

func TestCutFitsWhateverTheText(t *testing.T) {
	texts := []string{
		"", "plain", "日本語の名前", "\x1b[31mred\x1b[0m", "a\nb\tc", "👩‍👩‍👧‍👦 family", "e\u0301\u0301", "\u202eevil", "\xff\xfe", "한글/뷰", "\u200b\u200d", "🇩🇪🇫🇷",
		strings.Repeat("x", 500),
	}
	for _, text := range texts {
		for width := range 12 {
			got, w := Cut(text, width)
			if w > width || ansi.StringWidth(got) != w || ansi.StringWidthWc(got) > width {
				t.Errorf("Cut(%q, %d) = %q, %d; it is %d wide, or %d", text, width, got, w, ansi.StringWidth(got), ansi.StringWidthWc(got))
			}
			if !utf8.ValidString(got) || strings.ContainsAny(got, "\x1b\n\t\u202e\u200b") {
				t.Errorf("Cut(%q, %d) = %q is not safe to print", text, width, got)
			}
		}
	}
	if got, _ := Cut("billing.charge", 8); got != "billing…" {
		t.Error(got)
	}
}

func FuzzCut(f *testing.F) {
	f.Add("worker/日本", 4)
	f.Add("\x1b]0;x\x07", 3)
	f.Fuzz(func(t *testing.T, text string, width int) {
		width = max(0, min(width, 300))
		got, w := Cut(text, width)
		if w > width || ansi.StringWidth(got) != w || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("Cut(%q, %d) = %q, %d", text, width, got, w)
		}
	})
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Count(0), "0"}, {Count(999), "999"}, {Count(1000), "1,000"}, {Count(99_999), "99,999"}, {Count(100_000), "100k"},
		{Count(1_234_567), "1.23M"}, {Count(math.MaxUint64), "18446744T"},
		{Rate(0), "0"}, {Rate(math.NaN()), "0"}, {Rate(-3), "0"}, {Rate(0.04), "<0.1"}, {Rate(1.25), "1.2"}, {Rate(9.96), "10"}, {Rate(1234), "1234"}, {Rate(12345), "12.3k"},
		{Bytes(0), "0 B"}, {Bytes(1024), "1.0 KiB"}, {Bytes(10 << 20), "10 MiB"}, {Bytes(1 << 63), "8.0 EiB"},
		{Latency(0), "–"}, {Latency(-1), "–"}, {Latency(1), "<1µs"}, {Latency(340 * time.Microsecond), "340µs"}, {Latency(2100 * time.Microsecond), "2.1ms"},
		{Latency(9960 * time.Microsecond), "9ms"}, {Latency(250 * time.Millisecond), "250ms"}, {Latency(1250 * time.Millisecond), "1.25s"}, {Latency(12 * time.Second), "12.0s"}, {Latency(125 * time.Second), "2m05s"},
		{Span(-time.Second), "0s"}, {Span(59 * time.Second), "59s"}, {Span(250 * time.Second), "4m10s"}, {Span(5*time.Hour + 12*time.Minute), "5h12m"}, {Span(76 * time.Hour), "3d04h"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestThemes(t *testing.T) {
	for _, name := range Names() {
		for _, term := range []Terminal{{Dark: true, Colors: 1 << 24}, {Colors: 256}, {Dark: true, Colors: 16}, {Colors: 16}, {}} {
			th, err := Named(name, term)
			if err != nil {
				t.Fatal(err)
			}
			plain := th.Good.FG == 0 && th.Bad.FG == 0 && th.Tab.BG == 0 && th.Selected.BG == 0
			if want := name == "mono" || term.Colors == 0; plain != want {
				t.Errorf("%s on %+v: has colours: %v", name, term, !plain)
			}
			if th.Selected == (Style{}) || th.Tab == (Style{}) || th.Banner == (Style{}) {
				t.Errorf("%s on %+v: something does not stand out", name, term)
			}
		}
	}
	if _, err := Named("\x1b[31mpink", Terminal{}); err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Error(err)
	}
}

func TestLine(t *testing.T) {
	red := Style{FG: ANSI(1)}
	got := NewLine(8, Style{}).Text("ab", red).Text("cd", red).Fill(1, Style{}).Text("efghij", Style{}).String()
	if want := "\x1b[31mabcd\x1b[m ef…"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got = NewLine(4, Style{BG: RGB(0x010203)}).Text("a", Style{Attr: Bold}).String()
	if want := "\x1b[1;48;2;1;2;3ma\x1b[m\x1b[48;2;1;2;3m   \x1b[m"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := NewLine(6, Style{}).Cell("12", 4, true, Style{}).String(); got != "  12  " {
		t.Errorf("got %q", got)
	}
}

func TestInput(t *testing.T) {
	var in Input
	for _, c := range "wörker=a b" {
		in.Update(tea.KeyPressMsg{Code: c, Text: string(c)})
	}
	in.Update(tea.KeyPressMsg{Code: 'w', Mod: tea.ModCtrl})
	in.Update(tea.PasteMsg{Content: "x\ny\x1b[31m"})
	in.Update(tea.KeyPressMsg{Code: tea.KeyHome})
	in.Update(tea.KeyPressMsg{Code: tea.KeyDelete})
	in.Update(tea.KeyPressMsg{Code: '!', Text: "!"})
	if got := in.Text(); got != "!örker=a x y[31m" {
		t.Errorf("got %q", got)
	}
	in.Update(tea.PasteMsg{Content: strings.Repeat("z", 10_000)})
	if n := len([]rune(in.Text())); n != maxInput {
		t.Errorf("%d characters were taken", n)
	}
	for width := range 20 {
		l := NewLine(width, Style{})
		in.Draw(l, Style{})
		if got := ansi.StringWidth(l.String()); got != width {
			t.Errorf("drawn in %d columns it is %d wide", width, got)
		}
	}
}
