package screen

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// Clean makes text of unknown origin safe to print on one line: control characters,
// escape sequences, invisible and direction-changing characters and bad UTF-8 each become
// one "·". Clean text is returned as it is.
func Clean(text string) string {
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < ' ' || c >= 0x7f {
			return clean(text)
		}
	}
	return text
}

func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, text)
}

// Width is how many columns clean text takes.
func Width(text string) int {
	for i := 0; i < len(text); i++ {
		if text[i] >= utf8.RuneSelf {
			return ansi.StringWidth(text)
		}
	}
	return len(text)
}

// Cut cleans text and cuts it to at most width columns, with "…" for what is missing. It
// tells how wide the result is.
func Cut(text string, width int) (string, int) {
	if width <= 0 {
		return "", 0
	}
	text = Clean(text)
	w := Width(text)
	if w <= width {
		return text, w
	}
	if w == len(text) { // ASCII
		return text[:width-1] + "…", width
	}
	text = ansi.Truncate(text, width, "…")
	return text, ansi.StringWidth(text)
}

// Plain takes the styles out of a line that was drawn, and the spaces at its end.
func Plain(line string) string { return strings.TrimRight(ansi.Strip(line), " ") }

// Exactly cuts or fills a drawn line to exactly width columns.
func Exactly(line string, width int) string {
	w := ansi.StringWidth(line)
	if w > width {
		line = ansi.Truncate(line, width, "")
		w = ansi.StringWidth(line)
	}
	return line + strings.Repeat(" ", max(0, width-w))
}
