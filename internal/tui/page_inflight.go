package tui

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// inFlight lists the requests under way, and those that have just ended with what came of
// them. A broadcast is one row, which opens to a row for each variant.
type inFlight struct {
	table  *screen.Table[requestRow]
	rows   []requestRow
	open   map[string]bool // broadcasts that are open, by group
	filter string
	match  func(*inspect.Live) bool
	total  int // requests under way as the nodes count them
	listed int // of these, those that are in the picture
	shown  int // of these, those that the filter lets through
}

// requestRow is a row: a request, a broadcast as a whole, or one request of an open broadcast.
type requestRow struct {
	inspect.Live
	head    *requestRow // of one that belongs to an open broadcast; its own otherwise
	members []inspect.Live
	open    bool
}

func newInFlight() *inFlight {
	p := &inFlight{open: map[string]bool{}}
	p.table = screen.NewTable(requestColumns(), (*requestRow).key, 0)
	return p
}

func (f *requestRow) key() string {
	if f.members != nil {
		return "group " + f.Group
	}
	return f.UID + " " + f.Target
}

func (f *requestRow) under() bool { return f.head != f }

// requestColumns compare heads, so that an open broadcast stays together.
func requestColumns() []screen.Column[requestRow] {
	by := func(less func(a, b *requestRow) int) func(a, b *requestRow) int {
		return func(a, b *requestRow) int { return less(a.head, b.head) }
	}
	return []screen.Column[requestRow]{
		{Title: "AGE", Width: 7, Min: 7, Right: true, Down: true,
			Cell: func(t *screen.Theme, f *requestRow) screen.Cell {
				return screen.Cell{Text: screen.Latency(f.lasted()), Style: f.dim(t, t.Title)}
			},
			Less: by(func(a, b *requestRow) int { return cmp.Compare(a.lasted(), b.lasted()) })},
		{Title: "DEADLINE", Width: 10, Min: 8, Priority: 4,
			Cell: func(t *screen.Theme, f *requestRow) screen.Cell { return f.bar(t, 8) },
			Less: by(func(a, b *requestRow) int { return cmp.Compare(a.used(), b.used()) }), Down: true},
		{Title: "COMMAND", Width: 22, Min: 14, Flex: true, Max: 40,
			Cell: func(t *screen.Theme, f *requestRow) screen.Cell {
				return screen.Cell{Text: f.mark() + f.Command, Style: f.dim(t, t.Text)}
			},
			Less: by(func(a, b *requestRow) int { return natural(a.Command, b.Command) })},
		{Title: "CALLER → TARGET", Width: 34, Min: 18, Priority: 1, Flex: true, Max: 60,
			Cell: func(t *screen.Theme, f *requestRow) screen.Cell {
				return screen.Cell{Text: f.route(), Style: f.dim(t, t.Muted)}
			},
			Less: by(func(a, b *requestRow) int {
				return cmp.Or(natural(a.Caller, b.Caller), natural(a.Target, b.Target))
			})},
		{Title: "PHASE", Width: 15, Min: 12,
			Cell: func(t *screen.Theme, f *requestRow) screen.Cell {
				text, st := f.phase(t)
				return screen.Cell{Text: text, Style: st}
			},
			Less: by(func(a, b *requestRow) int { return strings.Compare(a.Phase, b.Phase) })},
		{Title: "KIND", Width: 9, Min: 9, Priority: 5,
			Cell: func(t *screen.Theme, f *requestRow) screen.Cell {
				return screen.Cell{Text: f.Kind, Style: f.dim(t, t.Muted)}
			},
			Less: by(func(a, b *requestRow) int { return strings.Compare(a.Kind, b.Kind) })},
		{Title: "SIZE", Width: 8, Min: 8, Priority: 6, Right: true, Down: true,
			Cell: func(t *screen.Theme, f *requestRow) screen.Cell {
				return screen.Cell{Text: screen.Bytes(uint64(max(0, f.Bytes))), Style: f.dim(t, t.Muted)}
			},
			Less: by(func(a, b *requestRow) int { return cmp.Compare(a.Bytes, b.Bytes) })},
		{Title: "UID", Width: 36, Min: 36, Priority: 7,
			Cell: func(t *screen.Theme, f *requestRow) screen.Cell {
				return screen.Cell{Text: f.UID, Style: f.dim(t, t.Faint)}
			}},
	}
}

// shortUID is enough of a uid to tell it from others on a screen: of a UUID two parts.
func shortUID(uid string) string {
	if len(uid) > 13 {
		return uid[:13]
	}
	return uid
}

func (f *requestRow) ended() bool { return !f.Ended.IsZero() }

// lasted is how long the request is under way, or took.
func (f *requestRow) lasted() time.Duration { return lasted(&f.Live) }

func lasted(r *inspect.Live) time.Duration {
	if !r.Ended.IsZero() {
		return r.Took
	}
	return r.Age
}

// used is the share of its time that the request has used.
func (f *requestRow) used() float64 {
	if f.Timeout <= 0 {
		return 0
	}
	return max(0, min(1, float64(f.lasted())/float64(f.Timeout)))
}

// dim takes the emphasis from what has ended and from what is part of a row above.
func (f *requestRow) dim(t *screen.Theme, st screen.Style) screen.Style {
	switch {
	case f.ended():
		return t.Faint
	case f.under():
		return t.Muted
	}
	return st
}

func (f *requestRow) bar(t *screen.Theme, width int) screen.Cell {
	if f.Timeout <= 0 {
		if f.ended() { // those who report it do not always know
			return screen.Cell{}
		}
		return screen.Cell{Text: "none", Style: t.Faint}
	}
	st := t.Good
	switch used := f.used(); {
	case f.ended():
		st = t.Faint
	case used > 0.8:
		st = t.Bad
	case used > 0.5:
		st = t.Warn
	}
	n := int(f.used()*float64(width) + 0.5)
	if n == 0 && !f.ended() {
		n = 1
	}
	return screen.Cell{Text: strings.Repeat("▰", n) + strings.Repeat("▱", width-n), Style: st}
}

func (f *requestRow) mark() string {
	switch {
	case f.under():
		return "└ "
	case f.members == nil:
		return ""
	case f.open:
		return "▾ "
	}
	return "▸ "
}

func (f *requestRow) route() string {
	if f.members != nil {
		return f.Caller + " → " + strconv.Itoa(len(f.members)) + " variants"
	}
	return f.Caller + " → " + f.Target
}

// phase gives symbol and word of where the request is, or of what came of it.
func (f *requestRow) phase(t *screen.Theme) (string, screen.Style) {
	if f.members != nil {
		done, failed := 0, 0
		for i := range f.members {
			if !f.members[i].Ended.IsZero() {
				done++
				if f.members[i].Code != "" {
					failed++
				}
			}
		}
		text := fmt.Sprintf("%d/%d done", done, len(f.members))
		switch {
		case failed > 0:
			return fmt.Sprintf("✖ %d failed", failed), t.Bad
		case done == len(f.members):
			return "✔ " + text, t.Good
		}
		return "● " + text, t.Info
	}
	return phaseWord(t, &f.Live)
}

func phaseWord(t *screen.Theme, r *inspect.Live) (string, screen.Style) {
	switch {
	case !r.Ended.IsZero() && r.Code != "":
		return "✖ " + string(r.Code), t.Bad
	case !r.Ended.IsZero():
		return "✔ ok", t.Good
	}
	switch r.Phase {
	case inspect.PhaseQueued:
		return "◌ queued", t.Warn
	case inspect.PhaseSent:
		return "→ sent", t.Muted
	case inspect.PhaseRunning:
		return "● running", t.Info
	case inspect.PhaseResponding:
		return "← responding", t.Good
	}
	return r.Phase, t.Text
}

// Title names the page.
func (p *inFlight) Title() string { return "In flight" }

// Refresh makes rows of the requests: one for each that is alone, and one for each
// broadcast, with its members behind it where it is open.
func (p *inFlight) Refresh(env Env) {
	requests := env.Picture.Requests
	groups := map[string][]inspect.Live{}
	under := 0
	p.shown = 0
	for i := range requests {
		if requests[i].Ended.IsZero() {
			under++
			if p.match == nil || p.match(&requests[i]) {
				p.shown++
			}
		}
		if g := requests[i].Group; g != "" {
			groups[g] = append(groups[g], requests[i])
		}
	}
	p.total, p.listed = env.Picture.Totals.InFlight, under
	rows := p.rows[:0]
	// Rows refer to their heads, so the slice must not move while it grows.
	rows = slices.Grow(rows, len(requests)+len(groups))
	add := func(f requestRow) *requestRow {
		rows = append(rows, f)
		r := &rows[len(rows)-1]
		r.head = r
		return r
	}
	for i := range requests {
		r := requests[i]
		members := groups[r.Group]
		if r.Group == "" || len(members) == 1 {
			if p.match == nil || p.match(&r) {
				add(requestRow{Live: r})
			}
			continue
		}
		if members == nil {
			continue // its row was made with the first of its group
		}
		groups[r.Group] = nil
		shown := members
		if p.match != nil {
			shown = slices.DeleteFunc(slices.Clone(members), func(m inspect.Live) bool { return !p.match(&m) })
		}
		if len(shown) == 0 {
			continue
		}
		head := add(requestRow{Live: summary(members), members: members, open: p.open[r.Group]})
		if head.open {
			slices.SortStableFunc(shown, func(a, b inspect.Live) int { return natural(a.Target, b.Target) })
			for _, m := range shown {
				add(requestRow{Live: m}).head = head
			}
		}
	}
	for g := range p.open {
		if _, there := groups[g]; !there {
			delete(p.open, g)
		}
	}
	p.rows = rows
	p.table.SetRows(rows)
}

// summary makes one request of those of a broadcast: as old as the oldest, ended when all
// have.
func summary(members []inspect.Live) inspect.Live {
	s := members[0]
	s.Bytes = 0
	var took time.Duration
	var ended time.Time
	for i := range members {
		m := &members[i]
		s.Bytes += m.Bytes
		s.Age = max(s.Age, m.Age)
		s.Timeout = max(s.Timeout, m.Timeout)
		took = max(took, m.Took)
		if m.Ended.After(ended) {
			ended = m.Ended
		}
		if m.Code != "" {
			s.Code, s.Error = m.Code, m.Error
		}
	}
	s.Ended, s.Took = ended, took
	if slices.ContainsFunc(members, func(m inspect.Live) bool { return m.Ended.IsZero() }) {
		s.Ended = time.Time{}
	}
	return s
}

// Update moves, opens a broadcast, and opens a request.
func (p *inFlight) Update(env Env, msg tea.Msg) tea.Cmd {
	if p.table.Update(msg) {
		return nil
	}
	key, ok := msg.(tea.KeyPressMsg)
	f := p.table.Selected()
	if !ok || f == nil || key.String() != "enter" {
		return nil
	}
	if f.members == nil {
		return Open(newRequestPage(f.Live))
	}
	p.open[f.Group] = !p.open[f.Group]
	p.Refresh(env)
	return nil
}

// Draw draws the table, and says when there are more requests than are listed.
func (p *inFlight) Draw(env Env) []string {
	if p.table.Total() == 0 {
		if p.filter != "" {
			return empty(env, "No request in flight matches the filter.")
		}
		return empty(env, "Nothing is in flight.")
	}
	if p.total <= p.listed {
		return p.table.Draw(env.Theme, env.Width, env.Height)
	}
	lines := p.table.Draw(env.Theme, env.Width, env.Height-1)
	note := fmt.Sprintf(" %s are in flight; each node lists its oldest 200.", screen.Count(uint64(p.total)))
	return append(lines, screen.NewLine(env.Width, screen.Style{}).Text(note, env.Theme.Muted).String())
}

// Keys are those of the table and Enter.
func (p *inFlight) Keys() []Binding { return tableKeys("open") }

// Filter is the filter in force.
func (p *inFlight) Filter() string { return p.filter }

// SetFilter filters by the fields of requests. A broadcast shows when one of its requests
// matches.
func (p *inFlight) SetFilter(env Env, text string) error {
	match, err := matchRequests(text)
	if err != nil {
		return err
	}
	p.filter, p.match = text, match
	p.Refresh(env)
	return nil
}

// Shown counts requests that are under way, not what has just ended.
func (p *inFlight) Shown() (shown, total int) { return p.shown, p.listed }

// Sorted tells the order.
func (p *inFlight) Sorted() (column string, descending bool) { return p.table.Sorted() }

// Export gives all rows.
func (p *inFlight) Export(env Env) []string { return p.table.Text(max(env.Width, 180)) }

// Copy gives the command line that sends the same request.
func (p *inFlight) Copy() (text, what string) {
	if f := p.table.Selected(); f != nil {
		return callLine(f.Command, f.Payload, f.Timeout), "the meshctl call of " + f.Command
	}
	return "", ""
}

// CallTarget is the command of the request under the cursor.
func (p *inFlight) CallTarget() string {
	if f := p.table.Selected(); f != nil {
		return f.Command
	}
	return ""
}

// CancelTarget is the request under the cursor. A broadcast has to be opened: each of its
// requests is canceled by itself.
func (p *inFlight) CancelTarget() (inspect.Live, bool) {
	f := p.table.Selected()
	if f == nil || f.members != nil || f.ended() {
		return inspect.Live{}, false
	}
	return f.Live, true
}

// Jump opens a request by its uid.
func (p *inFlight) Jump(env Env, name string) tea.Cmd {
	for i := range env.Picture.Requests {
		if r := &env.Picture.Requests[i]; r.UID == name {
			p.table.Select((&requestRow{Live: *r}).key())
			return Open(newRequestPage(*r))
		}
	}
	return nil
}
