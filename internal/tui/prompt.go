package tui

import (
	"context"
	"fmt"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// prompt is what takes the footer's place and all keys while something is asked.
type prompt interface {
	update(r *root, msg tea.Msg) tea.Cmd
	draw(r *root, l *screen.Line)
}

// filterPrompt filters the page in front while it is typed.
type filterPrompt struct {
	input  screen.Input
	page   Filterer
	before string
	err    error
}

func (r *root) askFilter() {
	page := r.front().(Filterer)
	p := &filterPrompt{page: page, before: page.Filter()}
	p.input.SetText(p.before)
	r.prompt = p
}

func (p *filterPrompt) update(r *root, msg tea.Msg) tea.Cmd {
	if key, ok := msg.(tea.KeyPressMsg); ok {
		switch key.String() {
		case "enter":
			if p.err == nil {
				r.prompt = nil
			}
			return nil
		case "esc":
			r.prompt = nil
			p.err = p.page.SetFilter(r.env(), p.before)
			return nil
		case "up", "down", "pgup", "pgdown": // look around while it is typed
			return r.front().Update(r.env(), msg)
		}
	}
	if p.input.Update(msg) {
		p.err = p.page.SetFilter(r.env(), p.input.Text())
	}
	return nil
}

func (p *filterPrompt) draw(r *root, l *screen.Line) {
	note, st := "text, /regexp/, !not, field>value and …   ⏎ keep  esc undo", r.theme.Muted
	if p.err != nil {
		note, st = p.err.Error(), r.theme.Bad
	} else if p.input.Text() != "" {
		n, of := p.page.Shown()
		note = fmt.Sprintf("%d of %d   ⏎ keep  esc undo", n, of)
	}
	drawInput(r, l, "/", &p.input, note, st)
}

// drawInput draws what is typed at the left and a note at the right, where it fits.
func drawInput(r *root, l *screen.Line, mark string, in *screen.Input, note string, st screen.Style) {
	note, w := screen.Cut(note, l.Left()/2)
	field := screen.NewLine(l.Left()-w-3, screen.Style{})
	field.Text(" "+mark, r.theme.Accent)
	in.Draw(field, r.theme.Text)
	l.Raw(field).Fill(2, screen.Style{}).Text(note, st)
}

// confirmPrompt asks whether to do something.
type confirmPrompt struct {
	question string
	do       func() tea.Cmd
}

func (p *confirmPrompt) update(r *root, msg tea.Msg) tea.Cmd {
	key, ok := msg.(tea.KeyPressMsg)
	if !ok {
		return nil
	}
	switch key.String() {
	case "y", "Y":
		r.prompt = nil
		return p.do()
	case "n", "N", "esc", "enter", "q":
		r.prompt = nil
	}
	return nil
}

func (p *confirmPrompt) draw(r *root, l *screen.Line) {
	keys := "  y yes  n no"
	l.Text(" "+p.question, r.theme.Warn.With(screen.Bold))
	if l.Left() < len(keys) {
		return
	}
	l.Text("  y", r.theme.Key).Text(" yes", r.theme.Muted).Text("  n", r.theme.Key).Text(" no", r.theme.Muted)
}

const cancelWithin = 10 * time.Second

func (r *root) askCancel() {
	req, ok := r.front().(Canceler).CancelTarget()
	if !ok {
		return
	}
	req = inspect.Live{Request: req.Request, Node: req.Node} // the picture changes while we ask
	r.prompt = &confirmPrompt{
		question: fmt.Sprintf("Cancel %s at %s (%s)?", req.Command, req.Target, req.UID),
		do:       func() tea.Cmd { return cancelRequest(r.control, req.Node, req.UID) },
	}
}

func cancelRequest(control inspect.Control, node, uid string) tea.Cmd {
	return func() tea.Msg {
		ctx, done := context.WithTimeout(context.Background(), cancelWithin)
		defer done()
		if err := control.Cancel(ctx, node, uid); err != nil {
			return flashMsg{fmt.Sprintf("cannot cancel %s: %v", uid, err), true}
		}
		return flashMsg{text: "canceled " + uid}
	}
}
