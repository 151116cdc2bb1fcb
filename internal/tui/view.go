package tui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// Lines of the frame: the header, the tabs, the line of the page's title, which is the
// banner when there is something to say, the page, and the footer.
const (
	tabsLine = 1
	bodyLine = 3
)

// chrome is how many lines are not the page's.
func (r *root) chrome() int {
	if r.timeline != nil {
		return bodyLine + 2
	}
	return bodyLine + 1
}

func (r *root) fits() bool { return r.width >= minWidth && r.height >= minHeight }

// View gives the frame. It draws only when something changed since the last one.
func (r *root) View() tea.View {
	if r.frame == "" {
		r.frame = strings.Join(r.draw(), "\n")
	}
	v := tea.NewView(r.frame)
	v.AltScreen = true
	v.WindowTitle = screen.Clean("meshctl " + r.watched())
	if r.mouse {
		v.MouseMode = tea.MouseModeCellMotion
	}
	return v
}

// draw gives exactly r.height lines of exactly r.width columns.
func (r *root) draw() []string {
	if r.width <= 0 || r.height <= 0 {
		return nil
	}
	if !r.fits() {
		lines := []string{screen.NewLine(r.width, screen.Style{}).Text(
			fmt.Sprintf("meshctl needs %d×%d; this window is %d×%d", minWidth, minHeight, r.width, r.height), r.theme.Text).String()}
		return r.fill(lines, r.height)
	}
	env := r.env()
	lines := []string{r.header(), r.tabBar(), r.titleLine(env)}
	var body []string
	if r.help != nil {
		body = r.help.draw(env)
	} else {
		body = r.front().Draw(env)
	}
	for _, line := range body[:min(len(body), env.Height)] {
		lines = append(lines, screen.Exactly(line, r.width))
	}
	lines = r.fill(lines, bodyLine+env.Height)
	if r.timeline != nil {
		lines = append(lines, r.timeBar())
	}
	return append(lines, r.footer())
}

func (r *root) fill(lines []string, height int) []string {
	blank := strings.Repeat(" ", r.width)
	for len(lines) < height {
		lines = append(lines, blank)
	}
	return lines
}

// watched names what is watched: of a live mesh the master in use, or the one that was lost,
// and how many others there are.
func (r *root) watched() string {
	at := r.picture.Status.Master
	if r.masters == 0 || at == "" {
		return r.title
	}
	if r.masters > 1 {
		at += fmt.Sprintf(" +%d", r.masters-1)
	}
	return at
}

// header says which mesh this is, how it is, and its totals.
func (r *root) header() string {
	t, p := r.theme, r.picture
	l := screen.NewLine(r.width, screen.Style{})
	l.Text(" meshctl", t.Title)
	if r.width >= minWidth+12 { // else the totals need the room
		l.Text(" "+r.watched(), t.Muted)
	}
	switch {
	case !r.frozen.IsZero():
		l.Text("  ■ frozen", t.Warn)
	case r.timeline != nil:
		l.Text("  ▶ replay", t.Warn)
	case p.At.IsZero() || p.Status == (inspect.Status{}):
		l.Text("  ○ connecting", t.Warn)
	case p.Status.Connected:
		l.Text("  ● live", t.Good)
	default:
		l.Text("  ✖ master lost", t.Bad)
	}
	switch {
	case r.recorded == nil:
	case r.unsaved == nil:
		l.Text("  ● recording", t.Warn)
	default:
		l.Text("  ✖ recording ended", t.Bad)
	}
	type total struct {
		value, unit string
		style       screen.Style
	}
	bad := t.Text
	if p.Totals.ErrorRate > 0 {
		bad = t.Bad
	}
	_, nodes, _ := strings.Cut(plural(p.Totals.Nodes, "node"), " ")
	_, links, _ := strings.Cut(plural(p.Totals.Links, "link"), " ")
	totals := []total{ // the last ones go first when there is no room
		{strconv.Itoa(p.Totals.Nodes), nodes, t.Text},
		{screen.Count(uint64(max(0, p.Totals.InFlight))), "in flight", t.Text},
		{screen.Rate(p.Totals.Rate), "calls/s", t.Text},
		{screen.Rate(p.Totals.ErrorRate), "errors/s", bad},
		{screen.Latency(p.Totals.P99), "p99", t.Text},
		{strconv.Itoa(p.Totals.Links), links, t.Text},
	}
	width := func() (n int) {
		for _, x := range totals {
			n += screen.Width(x.value) + 1 + len(x.unit) + 3
		}
		return n
	}
	for len(totals) > 0 && width() > l.Left()-2 {
		totals = totals[:len(totals)-1]
	}
	l.Fill(l.Left()-width(), screen.Style{})
	for i, x := range totals {
		if i > 0 {
			l.Text(" · ", t.Faint)
		}
		l.Text(x.value, x.style.With(screen.Bold)).Text(" "+x.unit, t.Muted)
	}
	return l.String()
}

// tabSpan is where a tab is, and what it says, its margins included.
type tabSpan struct {
	from, to, tab int
	text          string
}

// tabSpans says where the tabs are. In a narrower window they stand closer together, in a
// narrow one only the active one has its name.
func (r *root) tabSpans() []tabSpan {
	for _, fit := range []struct {
		margin string
		short  bool
	}{{" ", false}, {"", false}, {" ", true}} {
		var spans []tabSpan
		at := 1
		for i := range r.tabs {
			text := fit.margin + r.tabText(i, fit.short) + fit.margin
			w := screen.Width(text)
			spans = append(spans, tabSpan{at, at + w, i, text})
			at += w + 1
		}
		if at <= r.width || fit.short {
			return spans
		}
	}
	return nil
}

func (r *root) tabText(i int, short bool) string {
	n := strconv.Itoa(i + 1)
	if short && i != r.tab {
		return n
	}
	return n + " " + r.tabs[i][0].Title()
}

func (r *root) tabBar() string {
	l := screen.NewLine(r.width, screen.Style{})
	for _, s := range r.tabSpans() {
		l.To(s.from)
		if s.tab == r.tab {
			l.Text(s.text, r.theme.Tab)
			continue
		}
		name := strings.TrimLeft(s.text, " 0123456789")
		l.Text(strings.TrimSuffix(s.text, name), r.theme.Key).Text(name, r.theme.Muted)
	}
	return l.String()
}

// titleLine has the breadcrumbs, filter and order, or the banner.
func (r *root) titleLine(env Env) string {
	t := r.theme
	if r.ended != nil {
		return screen.NewLine(r.width, t.Banner).Text(" ✖ nothing new will come: "+r.ended.Error(), screen.Style{}).String()
	}
	if env.Stale && r.picture.Status != (inspect.Status{}) {
		text := " ✖ master lost"
		if !r.picture.Since.IsZero() {
			text += " " + screen.Span(r.picture.At.Sub(r.picture.Since)) + " ago"
		}
		if r.timeline == nil {
			text += ", reconnecting; what you see is old"
		}
		if reason := r.picture.Status.Reason; reason != "" {
			text += " · " + reason
		}
		return screen.NewLine(r.width, t.Banner).Text(text, screen.Style{}).String()
	}
	l := screen.NewLine(r.width, screen.Style{})
	if !r.frozen.IsZero() {
		l.Text(" ■ frozen for "+screen.Span(r.clock().Sub(r.frozen))+"; f goes on ", t.Notice)
	}
	l.Text(" ", t.Text)
	crumbs := r.crumbs(l.Left() * 3 / 4)
	for i, title := range crumbs {
		if i > 0 {
			l.Text(" › ", t.Faint)
		}
		l.Text(title, t.Accent)
	}
	if f, ok := r.front().(Filterer); ok {
		n, of := f.Shown()
		switch {
		case f.Filter() == "" && of > 0:
			l.Text("  "+strconv.Itoa(of), t.Muted)
		case f.Filter() != "":
			l.Text(fmt.Sprintf("  %d of %d", n, of), t.Muted).Text("  /"+f.Filter(), t.Warn)
		}
	}
	order := ""
	if s, ok := r.front().(Sorter); ok {
		if column, desc := s.Sorted(); column != "" {
			order = " by " + column + " ▲ "
			if desc {
				order = " by " + column + " ▼ "
			}
		}
	}
	l.Text(" ", t.Faint)
	if rule := l.Left() - screen.Width(order); rule > 0 {
		l.Text(strings.Repeat("─", rule), t.Faint).Text(order, t.Muted)
	}
	return l.String()
}

// crumbs are the titles of the pages that are open, without the first ones where that is
// wider than there is room.
func (r *root) crumbs(room int) []string {
	var titles []string
	width := 0
	for _, p := range slices.Backward(r.tabs[r.tab]) {
		title := screen.Clean(p.Title())
		if width += screen.Width(title) + 3; width > room && len(titles) > 0 {
			titles = append(titles, "…")
			break
		}
		titles = append(titles, title)
	}
	slices.Reverse(titles)
	return titles
}

// footer has what is asked, what was told, or the keys.
func (r *root) footer() string {
	t := r.theme
	l := screen.NewLine(r.width, screen.Style{})
	if r.prompt != nil {
		r.prompt.draw(r, l)
		return l.String()
	}
	if r.flash.text != "" && r.clock().Before(r.until) {
		st, mark := t.Info, " ● "
		if r.flash.bad {
			st, mark = t.Bad, " ✖ "
		}
		return l.Text(mark+r.flash.text, st).String()
	}
	var hints []Binding
	for _, b := range r.bindings() {
		if b.Hint {
			hints = append(hints, b)
		}
	}
	width := func(b Binding) int { return screen.Width(b.String()) + screen.Width(b.Help) + 3 }
	last := hints[len(hints)-2:] // help and quit always have their place
	left := r.width - width(last[0]) - width(last[1])
	for i, b := range hints {
		if i < len(hints)-2 {
			if left -= width(b); left < 0 {
				continue
			}
		}
		l.Text(" "+b.String(), t.Key).Text(" "+b.Help+" ", t.Muted)
	}
	return l.String()
}

// bindings are the keys that mean something now: the page's, then the root's.
func (r *root) bindings() []Binding {
	bs := r.front().Keys()
	for _, a := range rootActions() {
		if a.when == nil || a.when(r) {
			bs = append(bs[:len(bs):len(bs)], a.Binding)
		}
	}
	return bs
}
