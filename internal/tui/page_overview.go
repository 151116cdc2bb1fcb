package tui

import (
	"slices"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// overview is the first page: the vital signs of the mesh over panels of its services,
// its slowest commands, its oldest requests and its newest events.
type overview struct {
	panels [4]panelView // servicesPanel and so on
	focus  int
	text   string // of the filter
}

const (
	servicesPanel = iota
	flightPanel
	slowPanel
	newsPanel
)

// newOverview makes the page.
func newOverview() Page {
	return &overview{panels: [4]panelView{
		servicesPanel: {panel: &serviceList{}},
		flightPanel:   {panel: &flightList{}},
		slowPanel:     {panel: &slowList{}},
		newsPanel:     {panel: &newsList{}, tail: true},
	}}
}

// Title names the page.
func (*overview) Title() string { return "Overview" }

// Keys move between the panels and in them.
func (*overview) Keys() []Binding {
	return []Binding{
		{Keys: []string{"enter"}, Show: "⏎", Help: "open", Hint: true},
		{Keys: []string{"left", "right", "h", "l"}, Show: "←/→", Help: "panel before, after", Hint: true},
		{Keys: []string{"up", "down", "k", "j"}, Show: "↑/↓", Help: "row"},
		{Keys: []string{"home", "end", "g", "G"}, Show: "home/end", Help: "first, last row"},
	}
}

// Refresh makes the rows of all panels.
func (o *overview) Refresh(env Env) {
	for i := range o.panels {
		o.panels[i].panel.refresh(env)
		o.panels[i].settle()
	}
}

// Update moves, and opens what is under the cursor.
func (o *overview) Update(env Env, msg tea.Msg) tea.Cmd {
	p := &o.panels[o.focus]
	switch msg := msg.(type) {
	case tea.KeyPressMsg:
		switch msg.String() {
		case "left", "h":
			o.turn(-1)
		case "right", "l":
			o.turn(1)
		case "up", "k":
			if !p.move(p.at - 1) {
				o.turn(-1)
			}
		case "down", "j":
			if !p.move(p.at + 1) {
				o.turn(1)
			}
		case "pgup":
			p.move(max(0, p.at-max(1, p.rows)))
		case "pgdown":
			p.move(min(p.panel.len()-1, p.at+max(1, p.rows)))
		case "home", "g":
			p.move(0)
		case "end", "G":
			p.move(p.panel.len() - 1)
		case "enter":
			return p.open()
		}
	case tea.MouseClickMsg:
		if i, row := o.under(msg.X, msg.Y); i >= 0 && msg.Button == tea.MouseLeft {
			again := o.focus == i && row == o.panels[i].at
			o.focus = i
			if o.panels[i].move(row) && again { // a click on the cursor opens
				return o.panels[i].open()
			}
		}
	case tea.MouseWheelMsg:
		if i, _ := o.under(msg.X, msg.Y); i >= 0 {
			switch msg.Button {
			case tea.MouseWheelUp:
				o.panels[i].scroll(-3)
			case tea.MouseWheelDown:
				o.panels[i].scroll(3)
			}
		}
	}
	return nil
}

// reading is the order of the panels on the screen.
var reading = [...]int{servicesPanel, slowPanel, flightPanel, newsPanel}

// turn gives the focus to the next panel that is on the screen and has rows.
func (o *overview) turn(step int) {
	at := 0
	for i, p := range reading {
		if p == o.focus {
			at = i
		}
	}
	for at += step; at >= 0 && at < len(reading); at += step {
		if p := &o.panels[reading[at]]; p.rows > 0 && p.panel.len() > 0 {
			o.focus = reading[at]
			return
		}
	}
}

// under finds the panel at a place of the page, and the row; none is -1.
func (o *overview) under(x, y int) (panel, row int) {
	for i := range o.panels {
		p := &o.panels[i]
		if p.rows > 0 && x >= p.x && x < p.x+p.width && y >= p.y && y <= p.y+p.rows {
			return i, p.offset + y - p.y - 1
		}
	}
	return -1, -1
}

// CallTarget is the command that `c` calls: that of the row under the cursor.
func (o *overview) CallTarget() string {
	switch p := &o.panels[o.focus]; list := p.panel.(type) {
	case *slowList:
		if p.at < list.len() {
			return list.rows[p.at].Name
		}
	case *flightList:
		if p.at < list.len() {
			return list.rows[p.at].live.Command
		}
	}
	return ""
}

// CancelTarget is the request that `x` cancels. It has to be chosen: the first one changes
// by itself, and so does what is in the place of one that has ended.
func (o *overview) CancelTarget() (inspect.Live, bool) {
	p, list := &o.panels[o.focus], o.panels[flightPanel].panel.(*flightList)
	if o.focus != flightPanel || p.at >= list.len() || list.rows[p.at].n > 1 || list.key(p.at) != p.chosen {
		return inspect.Live{}, false
	}
	return *list.rows[p.at].live, true
}

// Filter is the filter in force.
func (o *overview) Filter() string { return o.text }

// SetFilter filters all panels to whose rows the filter means something, and shows all
// rows of the others.
func (o *overview) SetFilter(env Env, text string) error {
	var failed [len(o.panels)]error
	for i := range o.panels {
		failed[i] = o.panels[i].panel.filter(text)
	}
	if !slices.Contains(failed[:], nil) {
		return failed[0]
	}
	for i, err := range failed {
		if err != nil {
			_ = o.panels[i].panel.filter("") // it takes no filter
		}
	}
	o.text = text
	o.Refresh(env)
	return nil
}

// Shown counts the nodes while they are filtered; else there is nothing to tell.
func (o *overview) Shown() (shown, total int) {
	if o.text == "" {
		return 0, 0
	}
	services := o.panels[servicesPanel].panel.(*serviceList)
	return len(services.nodes), services.total
}

// Copy gives the name of a worker or node, or a line that makes the call.
func (o *overview) Copy() (text, what string) {
	p := &o.panels[o.focus]
	if p.at >= p.panel.len() {
		return "", ""
	}
	switch list := p.panel.(type) {
	case *serviceList:
		return list.goal(p.at), list.goal(p.at)
	case *slowList:
		return callLine(list.key(p.at), nil, 0), "the meshctl call of " + list.key(p.at)
	case *flightList:
		r := list.rows[p.at].live
		return callLine(r.Command, r.Payload, r.Timeout), "the meshctl call of " + r.Command
	}
	return "", ""
}

const panelGap = 3 // columns between the two halves of the page

// Draw draws the vital signs, the services beside the slowest commands and the oldest
// requests, and the newest events below them. The events go first where there is no room.
func (o *overview) Draw(env Env) []string {
	for i := range o.panels {
		o.panels[i].rows = 0
	}
	blank := screen.NewLine(env.Width, screen.Style{}).String()
	lines := drawVitals(env, vitalsHeight(env.Height))
	airy := env.Height >= 18
	if airy {
		lines = append(lines, blank)
	}
	height := env.Height - len(lines)
	events := eventsHeight(height)
	if events > 0 {
		height -= events + 1
		if airy {
			height--
		}
	}
	if events == 0 && o.focus == newsPanel {
		o.focus = servicesPanel // the events went with the last resize
	}
	lines = append(lines, o.middle(env, len(lines), height)...)
	if events > 0 {
		if airy {
			lines = append(lines, blank)
		}
		o.panels[newsPanel].x, o.panels[newsPanel].width = 0, env.Width-1
		lines = append(lines, o.panel(env, newsPanel, len(lines), events)...)
	}
	return lines
}

// middle draws the services at the left, and what is slow and what is in flight at the
// right, from line top on.
func (o *overview) middle(env Env, top, height int) []string {
	if height < 2 {
		return nil
	}
	left, right := halves(env.Width)
	o.panels[servicesPanel].x, o.panels[servicesPanel].width = 0, left
	for _, p := range [...]int{slowPanel, flightPanel} {
		o.panels[p].x, o.panels[p].width = left+panelGap, right
	}
	if s := o.panels[servicesPanel].panel.(*serviceList); s.room != height-1 {
		s.arrange(height - 1)
		o.panels[servicesPanel].settle()
	}
	services := o.panel(env, servicesPanel, top, height-1)
	slow, flight, gap := o.share(height)
	var rest []string
	if slow > 0 {
		rest = o.panel(env, slowPanel, top, slow)
	}
	if gap {
		rest = append(rest, screen.NewLine(right, screen.Style{}).String())
	}
	rest = append(rest, o.panel(env, flightPanel, top+len(rest), flight)...)
	between := screen.NewLine(panelGap, screen.Style{}).String()
	lines := make([]string, height)
	for y := range lines {
		lines[y] = services[y] + between + rest[y]
	}
	return lines
}

// panel draws one panel: a heading and exactly so many rows.
func (o *overview) panel(env Env, i, y, rows int) []string {
	p := &o.panels[i]
	p.y = y
	return p.draw(env.Theme, rows, i == o.focus)
}

// halves divides the width between the services and the rest, and leaves a margin.
func halves(width int) (left, right int) {
	left = max(27, min(width*2/5, 76))
	return left, width - panelGap - left - 1
}

// eventsHeight is how many events are shown in the height below the vital signs.
func eventsHeight(height int) int {
	if height < 12 {
		return 0
	}
	return max(3, min(height/5, 12))
}

// share divides the height of the right half into rows. It depends on nothing that
// changes from moment to moment, so that panels stay where they are.
func (o *overview) share(height int) (slow, flight int, gap bool) {
	rows := height - 2
	if rows < 2 {
		return 0, height - 1, false
	}
	if height >= 11 {
		gap = true
		rows--
	}
	slow = max(1, min(rows*2/5, max(3, o.panels[slowPanel].panel.len())))
	return slow, rows - slow, gap
}
