package screen

import (
	"unicode"

	tea "charm.land/bubbletea/v2"
)

const maxInput = 4096 // characters

// Input is a line that is typed. The zero Input is empty. It is used by one goroutine.
type Input struct {
	text []rune
	at   int
}

// SetText replaces what is typed and puts the cursor at its end.
func (in *Input) SetText(s string) {
	in.text = nil
	in.at = 0
	in.insert(s)
}

// Text is what is typed.
func (in *Input) Text() string { return string(in.text) }

// Before is what is typed before the cursor.
func (in *Input) Before() string { return string(in.text[:in.at]) }

// Update edits the line; it tells whether the message meant something to it.
func (in *Input) Update(msg tea.Msg) bool {
	switch msg := msg.(type) {
	case tea.PasteMsg:
		in.insert(msg.Content)
		return true
	case tea.KeyPressMsg:
		switch msg.String() {
		case "left", "ctrl+b":
			in.at = max(0, in.at-1)
		case "right", "ctrl+f":
			in.at = min(len(in.text), in.at+1)
		case "home", "ctrl+a":
			in.at = 0
		case "end", "ctrl+e":
			in.at = len(in.text)
		case "backspace", "ctrl+h":
			in.cut(in.at-1, in.at)
		case "delete", "ctrl+d":
			in.cut(in.at, in.at+1)
		case "ctrl+u":
			in.cut(0, in.at)
		case "ctrl+k":
			in.cut(in.at, len(in.text))
		case "ctrl+w", "alt+backspace":
			in.cut(in.word(), in.at)
		default:
			if msg.Text == "" {
				return false
			}
			in.insert(msg.Text)
		}
		return true
	}
	return false
}

func (in *Input) insert(s string) {
	var add []rune
	for _, r := range s {
		if r == '\n' || r == '\t' {
			r = ' '
		}
		if unicode.IsPrint(r) && len(in.text)+len(add) < maxInput {
			add = append(add, r)
		}
	}
	in.text = append(in.text[:in.at:in.at], append(add, in.text[in.at:]...)...)
	in.at += len(add)
}

func (in *Input) cut(from, to int) {
	from, to = max(0, from), min(len(in.text), to)
	if from >= to {
		return
	}
	in.text = append(in.text[:from:from], in.text[to:]...)
	in.at = from
}

func (in *Input) word() int {
	i := in.at
	for i > 0 && in.text[i-1] == ' ' {
		i--
	}
	for i > 0 && in.text[i-1] != ' ' {
		i--
	}
	return i
}

// Draw puts the line at the end of l, with the cursor, scrolled so that the cursor shows.
func (in *Input) Draw(l *Line, st Style) {
	room := l.Left() - 1
	from := 0
	for from < in.at && Width(string(in.text[from:in.at])) > room {
		from++
	}
	under, after := " ", ""
	if in.at < len(in.text) {
		under, after = string(in.text[in.at]), string(in.text[in.at+1:])
	}
	l.Text(string(in.text[from:in.at]), st)
	l.Text(under, st.With(Reverse))
	l.Text(after, st)
}
