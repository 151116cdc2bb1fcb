package tui

import (
	"cmp"
	"encoding/json"
	"strconv"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// events is the log of the mesh, the newest at the bottom. It follows until somebody moves
// away from the end.
type events struct {
	filterable[eventRow]
	rows []eventRow
}

// eventRow is an event and its number among all that there ever were.
type eventRow struct {
	*inspect.Event
	number uint64
}

func newEvents() *events {
	p := &events{}
	p.compile = matchEventRows
	p.table = screen.NewTable(eventColumns(), func(e *eventRow) string { return strconv.FormatUint(e.number, 10) }, -1)
	p.table.SetFollow(true)
	return p
}

func eventColumns() []screen.Column[eventRow] {
	return []screen.Column[eventRow]{
		{Title: "TIME", Width: 12, Min: 8, Cell: func(t *screen.Theme, e *eventRow) screen.Cell {
			return screen.Cell{Text: e.At.Local().Format("15:04:05.000"), Style: t.Muted}
		}, Less: func(a, b *eventRow) int { return cmp.Compare(a.number, b.number) }},
		{Title: "", Width: 1, Min: 1, Cell: func(t *screen.Theme, e *eventRow) screen.Cell {
			mark, st := levelMark(t, e.Level)
			return screen.Cell{Text: mark, Style: st}
		}},
		{Title: "EVENT", Width: 15, Min: 12, Cell: func(t *screen.Theme, e *eventRow) screen.Cell {
			_, st := levelMark(t, e.Level)
			return screen.Cell{Text: e.Type, Style: st}
		}, Less: func(a, b *eventRow) int { return cmp.Compare(a.Type, b.Type) }},
		{Title: "NODE", Width: 20, Min: 12, Priority: 2, Flex: true, Max: 32, Cell: func(t *screen.Theme, e *eventRow) screen.Cell {
			return screen.Cell{Text: e.Node, Style: t.Title}
		}, Less: func(a, b *eventRow) int { return natural(a.Node, b.Node) }},
		{Title: "MESSAGE", Width: 60, Min: 20, Flex: true, Cell: func(t *screen.Theme, e *eventRow) screen.Cell {
			return screen.Cell{Text: e.text(), Style: t.Text}
		}},
	}
}

// text is the message with what it is about: the command and whom it was sent to, or the
// other end of a link.
func (e *eventRow) text() string {
	switch {
	case e.Command != "" && e.Peer != "":
		return e.Command + ": " + e.Message + " (" + e.Peer + ")"
	case e.Command != "":
		return e.Command + ": " + e.Message
	case e.Peer != "":
		return "→ " + e.Peer + " " + e.Message
	}
	return e.Message
}

// levelMark gives the symbol and style of a level; the symbols differ.
func levelMark(t *screen.Theme, level inspect.EventLevel) (string, screen.Style) {
	switch level {
	case inspect.LevelError:
		return "✖", t.Bad
	case inspect.LevelWarn:
		return "▲", t.Warn
	}
	return "·", t.Info
}

// Title names the page.
func (p *events) Title() string { return "Events" }

// Refresh takes the events of the picture.
func (p *events) Refresh(env Env) {
	all := env.Picture.Events
	first := env.Picture.EventCount - min(env.Picture.EventCount, uint64(len(all)))
	p.rows = p.rows[:0]
	for i := range all {
		p.rows = append(p.rows, eventRow{&all[i], first + uint64(i)})
	}
	p.table.SetRows(p.rows)
}

// Update moves, follows, and opens an event.
func (p *events) Update(_ Env, msg tea.Msg) tea.Cmd {
	key, ok := msg.(tea.KeyPressMsg)
	moved := p.table.Update(msg)
	if ok && (key.String() == "end" || key.String() == "G") {
		p.table.SetFollow(true)
	}
	if !moved && ok && key.String() == "enter" {
		if e := p.table.Selected(); e != nil {
			return Open(&eventPage{event: *e.Event})
		}
	}
	return nil
}

// Draw draws the events, and says when it does not follow them.
func (p *events) Draw(env Env) []string {
	if p.table.Total() == 0 {
		return empty(env, "Nothing has happened since this dashboard was opened.")
	}
	if p.table.Following() {
		return p.table.Draw(env.Theme, env.Width, env.Height)
	}
	lines := p.table.Draw(env.Theme, env.Width, env.Height-1)
	for len(lines) < env.Height-1 {
		lines = append(lines, "")
	}
	return append(lines, screen.NewLine(env.Width, screen.Style{}).Text(" ⏸ not following; G goes to the end and follows", env.Theme.Warn).String())
}

// Keys are those of the table.
func (p *events) Keys() []Binding {
	return append(tableKeys("open"), Binding{Keys: []string{"G", "end"}, Show: "G", Help: "follow", Hint: true})
}

// Export gives all events that match.
func (p *events) Export(env Env) []string { return p.table.Text(max(env.Width, 240)) }

// Copy gives the event as JSON, as `meshctl events` prints it.
func (p *events) Copy() (text, what string) {
	if e := p.table.Selected(); e != nil {
		return eventJSON(e.Event), "the event"
	}
	return "", ""
}

// CallTarget is the command that the event is about.
func (p *events) CallTarget() string {
	if e := p.table.Selected(); e != nil {
		return e.Command
	}
	return ""
}

func eventJSON(e *inspect.Event) string {
	text, err := json.Marshal(e)
	if err != nil {
		return ""
	}
	return string(text)
}

// eventPage shows one event whole.
type eventPage struct{ event inspect.Event }

// Title is the event's type.
func (p *eventPage) Title() string { return p.event.Type }

// Refresh has nothing to do: an event does not change.
func (p *eventPage) Refresh(Env) {}

// Update goes to the node that the event is about.
func (p *eventPage) Update(_ Env, msg tea.Msg) tea.Cmd {
	if key, ok := msg.(tea.KeyPressMsg); ok && key.String() == "enter" && p.event.Node != "" {
		return Go(p.event.Node)
	}
	return nil
}

// Draw draws all that is known of it.
func (p *eventPage) Draw(env Env) []string {
	e, t := &p.event, env.Theme
	mark, st := levelMark(t, e.Level)
	f := facts{env: env}
	f.add("time", e.At.Local().Format("2006-01-02 15:04:05.000 -07:00"), t.Text)
	f.add("level", mark+" "+string(e.Level), st)
	f.add("event", e.Type, t.Title)
	f.add("node", e.Node, t.Text)
	f.add("peer", e.Peer, t.Text)
	f.add("command", e.Command, t.Text)
	f.add("uid", e.UID, t.Muted)
	f.add("code", e.Code, t.Bad)
	f.lines = append(f.lines, "")
	for _, part := range strings.Split(e.Message, "\n") {
		f.add("message", part, t.Text)
	}
	return f.lines
}

// Keys are what one can do with it.
func (p *eventPage) Keys() []Binding {
	return []Binding{{Keys: []string{"enter"}, Show: "⏎", Help: "go to the node", Hint: p.event.Node != ""}}
}

// Copy gives the event as JSON.
func (p *eventPage) Copy() (text, what string) { return eventJSON(&p.event), "the event" }

// CallTarget is the command that the event is about.
func (p *eventPage) CallTarget() string { return p.event.Command }
