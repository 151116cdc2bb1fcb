package tui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"charm.land/bubbles/v2/textarea"
	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/wire"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// callForm calls a command and shows the answer. It never waits for the mesh: the answer
// comes back as a message.
type callForm struct {
	target  screen.Input
	timeout screen.Input
	payload textarea.Model
	field   int // which of them is typed in

	control inspect.Control
	known   []string // commands of the mesh
	sent    int      // calls so far; an answer to an older one is not shown
	waiting bool
	answer  answerMsg
	offset  int // how far the answer is scrolled
}

// The fields of the form, in order.
const (
	fieldTarget = iota
	fieldPayload
	fieldTimeout
	fieldCount
)

const (
	defaultTimeout = 3 * time.Second
	maxPayloadText = 256 << 10 // bytes that can be typed or pasted
)

// answerMsg is what came of a call.
type answerMsg struct {
	form  *callForm
	call  int
	lines []string // of the answer, or of what went wrong
	err   error
	took  time.Duration
}

func newCallForm(target string) Page {
	f := &callForm{payload: newEditor()}
	f.target.SetText(target)
	f.timeout.SetText(defaultTimeout.String())
	f.focus(fieldPayload)
	if target == "" {
		f.focus(fieldTarget)
	}
	return f
}

// newEditor is a plain field of several lines: its look comes from the page around it.
func newEditor() textarea.Model {
	e := textarea.New()
	e.ShowLineNumbers = false
	e.Prompt = ""
	e.CharLimit = maxPayloadText
	plain := textarea.StyleState{Base: lipgloss.NewStyle()}
	e.SetStyles(textarea.Styles{Focused: plain, Blurred: plain})
	e.KeyMap.Paste.SetEnabled(false) // the terminal pastes; no program is asked for a clipboard
	e.SetValue("{}")
	e.MoveToEnd()
	return e
}

func (f *callForm) focus(field int) {
	f.field = (field + fieldCount) % fieldCount
	if f.field == fieldPayload {
		f.payload.Focus()
	} else {
		f.payload.Blur()
	}
}

// Title names the page.
func (f *callForm) Title() string { return "Call" }

// Typing is always so.
func (f *callForm) Typing() bool { return true }

// Refresh learns the commands that there are.
func (f *callForm) Refresh(env Env) {
	f.control = env.Control
	f.known = f.known[:0]
	for i := range env.Picture.Commands {
		f.known = append(f.known, env.Picture.Commands[i].Name)
	}
	if s := env.Picture.Schema; s != nil {
		for _, w := range s.Workers {
			for name := range w.Commands {
				f.known = append(f.known, w.Name+"."+name)
			}
		}
	}
	slices.Sort(f.known)
	f.known = slices.Compact(f.known)
}

// Update types, changes the field, sends, and takes the answer.
func (f *callForm) Update(env Env, msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case answerMsg:
		if msg.form == f && msg.call == f.sent {
			f.answer, f.waiting, f.offset = msg, false, 0
		}
		return nil
	case tea.KeyPressMsg:
		switch key := msg.String(); {
		case key == "ctrl+s", key == "enter" && f.field != fieldPayload:
			return f.send()
		case key == "tab" && f.field == fieldTarget && f.completion() != "":
			f.target.SetText(f.completion())
			return nil
		case key == "tab":
			f.focus(f.field + 1)
			return nil
		case key == "shift+tab":
			f.focus(f.field - 1)
			return nil
		case key == "pgup":
			f.offset = max(0, f.offset-5)
			return nil
		case key == "pgdown":
			f.offset += 5
			return nil
		}
	case tea.MouseWheelMsg:
		f.offset = max(0, f.offset+3)
		if msg.Button == tea.MouseWheelUp {
			f.offset = max(0, f.offset-6)
		}
		return nil
	}
	switch f.field {
	case fieldTarget:
		f.target.Update(msg)
	case fieldTimeout:
		f.timeout.Update(msg)
	case fieldPayload:
		editor, cmd := f.payload.Update(msg)
		f.payload = editor
		return cmd
	}
	return nil
}

// completion is the only command that begins with what is typed, "" when there is none or
// several, or when it is typed whole.
func (f *callForm) completion() string {
	matches := f.offers()
	if len(matches) == 1 && matches[0] != f.target.Text() {
		return matches[0]
	}
	return ""
}

func (f *callForm) offers() []string {
	var all []string
	for _, name := range f.known {
		if strings.HasPrefix(name, f.target.Text()) {
			all = append(all, name)
		}
	}
	return all
}

// check says what cannot be sent as it is, and in which field.
func (f *callForm) check() (timeout time.Duration, field int, err error) {
	if _, _, err := wire.ParseTarget(f.target.Text()); err != nil {
		return 0, fieldTarget, errors.New("the target is WORKER.COMMAND")
	}
	if err := f.checkPayload(); err != nil {
		return 0, fieldPayload, err
	}
	timeout, err = time.ParseDuration(f.timeout.Text())
	if err != nil || timeout <= 0 || timeout > wire.MaxTimeout {
		return 0, fieldTimeout, errors.New("the time-out is a duration such as 500ms or 3s")
	}
	return timeout, 0, nil
}

func (f *callForm) checkPayload() error {
	text := f.payload.Value()
	var any json.RawMessage
	err := json.Unmarshal([]byte(text), &any)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		at := text[:min(len(text), int(max(0, syntax.Offset-1)))]
		line := strings.Count(at, "\n")
		column := len([]rune(at[strings.LastIndex(at, "\n")+1:]))
		return fmt.Errorf("line %d, column %d: %w", line+1, column+1, err)
	}
	return err
}

func (f *callForm) send() tea.Cmd {
	if f.control == nil {
		return Complain(errors.New("a recording cannot be called"))
	}
	timeout, field, err := f.check()
	if err != nil {
		f.focus(field)
		return Complain(err)
	}
	f.sent++
	f.waiting = true
	call, control, target, payload := f.sent, f.control, f.target.Text(), json.RawMessage(f.payload.Value())
	return func() tea.Msg {
		// A little more than the call itself may take: reaching a node first takes time, too.
		ctx, cancel := context.WithTimeout(context.Background(), timeout+5*time.Second)
		defer cancel()
		began := time.Now()
		result, err := control.Call(ctx, target, payload, timeout)
		msg := answerMsg{form: f, call: call, err: err, took: time.Since(began)}
		var failed *wire.Error
		switch {
		case err == nil:
			msg.lines = pretty(result)
		case errors.As(err, &failed):
			msg.lines = []string{string(failed.Code) + ": " + failed.Message}
			if failed.Hint != "" {
				msg.lines = append(msg.lines, "hint: "+failed.Hint)
			}
		default:
			msg.lines = []string{err.Error()}
		}
		return msg
	}
}

// Draw draws the fields and below them the answer.
func (f *callForm) Draw(env Env) []string {
	t := env.Theme
	label := func(field int, text string) *screen.Line {
		l := screen.NewLine(env.Width, screen.Style{})
		mark, st := "  ", t.Muted
		if field == f.field {
			mark, st = "▸ ", t.Accent
		}
		return l.Text(mark, st).Cell(text, 9, false, st)
	}
	input := func(field int, text string, in *screen.Input) string {
		l := label(field, text)
		if field == f.field {
			in.Draw(l, t.Text)
		} else {
			l.Text(in.Text(), t.Text)
		}
		return l.String()
	}
	lines := []string{input(fieldTarget, "target", &f.target)}
	if offers := f.offers(); f.field == fieldTarget && len(offers) > 0 && !slices.Contains(offers, f.target.Text()) {
		lines = append(lines, screen.NewLine(env.Width, screen.Style{}).Fill(11, screen.Style{}).
			Text("⇥ "+strings.Join(offers[:min(len(offers), 8)], "  "), t.Muted).String())
	}
	lines = append(lines, f.drawPayload(env, label(fieldPayload, "payload"))...)
	lines = append(lines, input(fieldTimeout, "time-out", &f.timeout), "")
	return append(lines, f.drawAnswer(env, env.Height-len(lines))...)
}

func (f *callForm) drawPayload(env Env, label *screen.Line) []string {
	t := env.Theme
	note, st := "✔ JSON", t.Good
	if err := f.checkPayload(); err != nil {
		note, st = "✖ "+err.Error(), t.Bad
	}
	f.payload.SetWidth(max(8, env.Width-4))
	f.payload.SetHeight(max(2, min(f.payload.LineCount()+1, env.Height/3)))
	lines := []string{label.Text(note, st).String()}
	for _, line := range strings.Split(f.payload.View(), "\n") {
		lines = append(lines, screen.Exactly("    "+line, env.Width))
	}
	return lines
}

func (f *callForm) drawAnswer(env Env, height int) []string {
	t := env.Theme
	head := screen.NewLine(env.Width, screen.Style{}).Fill(1, screen.Style{})
	var body []string
	switch {
	case env.Control == nil:
		head.Text("a recording cannot be called", t.Warn)
	case f.waiting:
		head.Text("◌ waiting for the answer", t.Info)
	case f.answer.form == nil:
		head.Text("ctrl+s", t.Key).Text(" sends it", t.Muted)
	case f.answer.err != nil:
		head.Text("✖ failed", t.Bad.With(screen.Bold)).Text(" after "+screen.Latency(f.answer.took), t.Muted)
		for _, line := range f.answer.lines {
			body = append(body, wrap(line, env.Width-4)...)
		}
	default:
		head.Text("✔ answered", t.Good.With(screen.Bold)).Text(" in "+screen.Latency(f.answer.took), t.Muted)
		body = f.answer.lines
	}
	lines := []string{head.String()}
	f.offset = max(0, min(f.offset, len(body)-(height-1)))
	for _, line := range body[f.offset:] {
		lines = append(lines, screen.NewLine(env.Width, screen.Style{}).Fill(3, screen.Style{}).Text(line, t.Text).String())
	}
	return lines[:min(len(lines), max(0, height))]
}

// Keys are those of the form.
func (f *callForm) Keys() []Binding {
	return []Binding{
		{Keys: []string{"ctrl+s"}, Help: "send", Hint: true},
		{Keys: []string{"tab"}, Show: "⇥", Help: "next field, complete", Hint: true},
		{Keys: []string{"shift+tab"}, Show: "⇧⇥", Help: "field before"},
		{Keys: []string{"pgup", "pgdown"}, Show: "⇞/⇟", Help: "scroll the answer"},
	}
}
