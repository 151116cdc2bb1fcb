package tui

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// requestPage shows one request whole, and what came of it.
type requestPage struct {
	request inspect.Live // as it was last seen
	gone    bool         // it is not in the picture any more
	offset  int
	height  int
	lines   int
}

func newRequestPage(r inspect.Live) *requestPage { return &requestPage{request: r} }

// Title is the command and a short uid.
func (p *requestPage) Title() string { return p.request.Command + " " + shortUID(p.request.UID) }

// Refresh finds the request in the picture. It is shown as it was last seen when it is
// there no more.
func (p *requestPage) Refresh(env Env) {
	p.gone = true
	for i := range env.Picture.Requests {
		if r := &env.Picture.Requests[i]; r.UID == p.request.UID && r.Target == p.request.Target {
			payload := p.request.Payload
			p.request, p.gone = *r, false
			if len(p.request.Payload) == 0 {
				p.request.Payload = payload
			}
			// The picture's memory is not ours to keep.
			p.request.Payload = bytes.Clone(p.request.Payload)
		}
	}
}

// Update scrolls.
func (p *requestPage) Update(_ Env, msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case tea.KeyPressMsg:
		switch msg.String() {
		case "up", "k":
			p.offset--
		case "down", "j":
			p.offset++
		case "pgup":
			p.offset -= p.height
		case "pgdown":
			p.offset += p.height
		case "home", "g":
			p.offset = 0
		case "end", "G":
			p.offset = p.lines
		case "enter":
			return Go(p.request.Target)
		}
	case tea.MouseWheelMsg:
		if msg.Button == tea.MouseWheelUp {
			p.offset -= 3
		} else {
			p.offset += 3
		}
	}
	return nil
}

// Draw draws as much as fits, from where it was scrolled to.
func (p *requestPage) Draw(env Env) []string {
	lines := p.text(env)
	p.lines, p.height = len(lines), env.Height
	p.offset = max(0, min(p.offset, len(lines)-env.Height))
	return lines[p.offset:min(len(lines), p.offset+env.Height)]
}

func (p *requestPage) text(env Env) []string {
	r, t := &p.request, env.Theme
	f := facts{env: env}
	word, st := phaseWord(t, r)
	if p.gone && r.Ended.IsZero() {
		word, st = "ended, or no longer reported; last seen "+word, t.Muted
	}
	f.add("state", word, st)
	f.add("command", r.Command, t.Title)
	f.add("caller", r.Caller, t.Text)
	f.add("target", r.Target, t.Text)
	f.add("kind", r.Kind, t.Text)
	if r.Ended.IsZero() {
		f.add("age", screen.Latency(r.Age), t.Text)
	} else {
		f.add("took", screen.Latency(r.Took), t.Text)
	}
	if r.Timeout > 0 {
		f.add("deadline", "after "+screen.Latency(r.Timeout), t.Text)
	}
	f.add("error", r.Error, t.Bad)
	f.add("size", screen.Bytes(uint64(max(0, r.Bytes))), t.Text)
	if r.ResultBytes > 0 {
		f.add("result", screen.Bytes(uint64(r.ResultBytes)), t.Text)
	}
	if r.Attempt > 1 {
		f.add("attempt", screen.Count(uint64(r.Attempt)), t.Warn)
	}
	f.add("uid", r.UID, t.Muted)
	f.add("broadcast", r.Group, t.Muted)
	f.add("told by", r.Node, t.Muted)
	f.lines = append(f.lines, "")
	if len(r.Payload) == 0 {
		f.add("payload", "not shown: the node was joined without --inspect-payloads", t.Muted)
		return f.lines
	}
	f.add("payload", "with what the schema calls sensitive masked", t.Muted)
	for _, line := range pretty(r.Payload) {
		f.lines = append(f.lines, screen.NewLine(env.Width, screen.Style{}).Fill(2, screen.Style{}).Text(line, t.Text).String())
	}
	if r.Cut {
		f.add("", "… cut by the node that reported it", t.Muted)
	}
	return f.lines
}

// pretty gives JSON as indented lines; anything else as it is.
func pretty(data json.RawMessage) []string {
	var out bytes.Buffer
	if json.Indent(&out, data, "", "  ") != nil {
		return strings.Split(string(data), "\n")
	}
	return strings.Split(out.String(), "\n")
}

// Keys are those that scroll.
func (p *requestPage) Keys() []Binding {
	return []Binding{
		{Keys: []string{"enter"}, Show: "⏎", Help: "go to the target", Hint: true},
		{Keys: []string{"up", "down", "k", "j"}, Show: "↑/↓", Help: "scroll"},
		{Keys: []string{"pgup", "pgdown"}, Show: "⇞/⇟", Help: "scroll by a page"},
		{Keys: []string{"home", "end", "g", "G"}, Show: "g/G", Help: "beginning, end"},
	}
}

// Copy gives the command line that sends the same request.
func (p *requestPage) Copy() (text, what string) {
	return callLine(p.request.Command, p.request.Payload, p.request.Timeout), "the meshctl call of " + p.request.Command
}

// CallTarget is the request's command.
func (p *requestPage) CallTarget() string { return p.request.Command }

// CancelTarget is the request, while it is under way.
func (p *requestPage) CancelTarget() (inspect.Live, bool) {
	return p.request, !p.gone && p.request.Ended.IsZero()
}

// Export gives all that is known of it.
func (p *requestPage) Export(env Env) []string { return p.text(env) }

// callLine is a command line for a POSIX shell that sends a request. Nothing that a shell
// or a terminal takes for anything else is left in it.
func callLine(command string, payload json.RawMessage, timeout time.Duration) string {
	line := "meshctl call " + shellQuote(command)
	if len(payload) > 0 {
		var compact bytes.Buffer
		if json.Compact(&compact, payload) == nil {
			line += " -d " + shellQuote(compact.String())
		}
	}
	if timeout > 0 {
		line += " --timeout " + timeout.Round(time.Millisecond).String()
	}
	return line
}

// shellQuote quotes a word where it has to be.
func shellQuote(word string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-/:@%+=,", c)
	}
	if word != "" && strings.IndexFunc(word, func(c rune) bool { return !plain(c) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(screen.Clean(word), "'", `'\''`) + "'"
}
