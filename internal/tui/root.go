package tui

import (
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// The smallest window that the dashboard draws itself in.
const (
	minWidth  = 60
	minHeight = 15
)

const flashFor = 4 * time.Second

// root is the whole dashboard: it owns the pages, the theme, the size, and what is typed.
// It is a tea.Model that changes in place; View only reads.
type root struct {
	title    string
	masters  int
	take     func(time.Time) *inspect.Picture // the next picture
	control  inspect.Control
	timeline inspect.Timeline
	recorded func() error // nil: it is not
	clock    func() time.Time
	inTmux   bool
	writeDir string

	width, height int
	theme         *screen.Theme
	themeName     string
	term          screen.Terminal

	picture *inspect.Picture
	frozen  time.Time // when it was frozen; zero: it is not
	unsaved error     // why the recording ended, when it has
	ended   error     // why the source ended, when it has
	mouse   bool

	tabs   [][]Page // each a stack: what is in front is its last
	tab    int
	help   *helpPage
	prompt prompt // nil: nothing is typed
	flash  flashMsg
	until  time.Time // the flash goes
	frame  string    // what was drawn last; "" when it has to be drawn anew
}

// newRoot puts the dashboard together. pages are the tabs, in order.
func newRoot(o Options, take func(time.Time) *inspect.Picture, pages []Page) (*root, error) {
	r := &root{
		title: o.Title, masters: o.Masters, take: take, control: o.Control, timeline: o.Timeline, recorded: o.Recorded, clock: o.Clock,
		inTmux: variable(o.Environ, "TMUX") != "", writeDir: o.WriteDir, themeName: o.Theme, mouse: true,
		term: screen.Terminal{Dark: true, Colors: 1 << 24}, picture: &inspect.Picture{},
	}
	for _, p := range pages {
		r.tabs = append(r.tabs, []Page{p})
	}
	if err := r.dress(); err != nil {
		return nil, err
	}
	return r, nil
}

// Init asks for the terminal's background and for the first frame.
func (r *root) Init() tea.Cmd {
	r.refresh()
	return tea.RequestBackgroundColor
}

// Update takes one message.
func (r *root) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	return r, r.handle(msg)
}

func (r *root) handle(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case frameMsg:
		if r.frozen.IsZero() {
			r.refresh()
		} else {
			r.frame = ""
		}
		return r.checkRecording()
	case tea.WindowSizeMsg:
		r.width, r.height = msg.Width, msg.Height
		r.frame = ""
		return nil
	case tea.ColorProfileMsg:
		r.term.Colors = colors(msg.Profile)
		return r.redress()
	case tea.BackgroundColorMsg:
		r.term.Dark = msg.IsDark()
		return r.redress()
	case endMsg:
		r.ended, r.frame = msg.err, ""
		return nil
	case tea.EnvMsg, tea.KeyboardEnhancementsMsg, tea.FocusMsg, tea.BlurMsg:
		return nil
	}
	r.frame = ""
	switch msg := msg.(type) {
	case openMsg:
		r.open(msg.page)
		return nil
	case closeMsg:
		r.back()
		return nil
	case jumpMsg:
		return r.jump(msg.name)
	case flashMsg:
		return r.tell(msg.text, msg.bad)
	case tea.KeyPressMsg:
		return r.press(msg)
	case tea.PasteMsg:
		if r.prompt != nil {
			return r.prompt.update(r, msg)
		}
		return r.front().Update(r.env(), msg)
	case tea.MouseClickMsg, tea.MouseWheelMsg:
		return r.point(msg.(tea.MouseMsg))
	case tea.MouseMsg:
		return nil
	}
	var cmds []tea.Cmd // it is some page's own, which need not be in front any more
	for _, stack := range r.tabs {
		for _, p := range stack {
			cmds = append(cmds, p.Update(r.env(), msg))
		}
	}
	return tea.Batch(cmds...)
}

// refresh takes a new picture and lets the page in front make its rows of it.
func (r *root) refresh() {
	now := r.clock()
	if r.timeline != nil {
		now = r.timeline.Position()
	}
	r.picture = r.take(now)
	r.front().Refresh(r.env())
	r.frame = ""
}

// checkRecording tells, once, that the recording has ended.
func (r *root) checkRecording() tea.Cmd {
	if r.recorded == nil || r.unsaved != nil {
		return nil
	}
	if r.unsaved = r.recorded(); r.unsaved != nil {
		return r.tell("nothing more is recorded: "+r.unsaved.Error(), true)
	}
	return nil
}

func (r *root) front() Page {
	stack := r.tabs[r.tab]
	return stack[len(stack)-1]
}

func (r *root) env() Env {
	return Env{
		Width: r.width, Height: max(0, r.height-r.chrome()), Theme: r.theme, Picture: r.picture,
		Stale: r.stale(), Control: r.control,
	}
}

func (r *root) stale() bool { return !r.picture.Status.Connected }

// open puts a page in front. What is open already, somewhere below, is gone back to, so
// that going round in circles piles nothing up.
func (r *root) open(p Page) {
	stack := r.tabs[r.tab]
	for i := 1; i < len(stack); i++ {
		if stack[i].Title() == p.Title() {
			stack = stack[:i]
			break
		}
	}
	r.tabs[r.tab] = append(stack, p)
	p.Refresh(r.env())
}

func (r *root) goTab(i int) {
	if i == r.tab { // once more: back to the page itself
		r.tabs[i] = r.tabs[i][:1]
	}
	r.tab = i
	r.help = nil
	r.front().Refresh(r.env())
}

// back takes the topmost thing away; it tells whether there was one.
func (r *root) back() bool {
	stack := r.tabs[r.tab]
	switch {
	case len(stack) > 1:
		r.tabs[r.tab] = stack[:len(stack)-1]
		r.front().Refresh(r.env())
	default:
		if f, ok := r.front().(Filterer); ok && f.Filter() != "" {
			return f.SetFilter(r.env(), "") == nil
		}
		return false
	}
	return true
}

// tell shows text in the footer and asks for a frame when it should go.
func (r *root) tell(text string, bad bool) tea.Cmd {
	r.flash = flashMsg{text, bad}
	r.until = r.clock().Add(flashFor)
	r.frame = ""
	return nil // the once-a-second frame takes it away
}

func (r *root) dress() error {
	theme, err := screen.Named(r.themeName, r.term)
	if err != nil {
		return err
	}
	r.theme, r.frame = theme, ""
	return nil
}

func (r *root) redress() tea.Cmd {
	if err := r.dress(); err != nil {
		return r.tell(err.Error(), true)
	}
	return nil
}

func colors(p colorprofile.Profile) int {
	switch p {
	case colorprofile.ANSI:
		return 16
	case colorprofile.ANSI256:
		return 256
	case colorprofile.TrueColor:
		return 1 << 24
	}
	return 0
}

// press gives a key to whoever it is for.
func (r *root) press(msg tea.KeyPressMsg) tea.Cmd {
	r.flash = flashMsg{}
	key := msg.String()
	if key == "ctrl+c" {
		return tea.Quit
	}
	if r.prompt != nil {
		return r.prompt.update(r, msg)
	}
	if r.help != nil {
		if key == "esc" || key == "q" {
			r.help = nil
			return nil
		}
		if r.help.update(key, r.env().Height) {
			return nil
		}
	}
	if t, ok := r.front().(Typist); ok && t.Typing() {
		if key == "esc" {
			r.back()
			return nil
		}
		return r.front().Update(r.env(), msg)
	}
	for _, a := range rootActions() {
		if a.Matches(key) && (a.when == nil || a.when(r)) {
			return a.do(r, key)
		}
	}
	return r.front().Update(r.env(), msg)
}

// point gives a mouse message to what is under it.
func (r *root) point(msg tea.MouseMsg) tea.Cmd {
	if r.prompt != nil || !r.fits() {
		return nil
	}
	m := msg.Mouse()
	_, click := msg.(tea.MouseClickMsg)
	if click && m.Y == tabsLine {
		for _, s := range r.tabSpans() {
			if m.X >= s.from && m.X < s.to {
				r.goTab(s.tab)
			}
		}
		return nil
	}
	if m.Y -= bodyLine; m.Y < 0 || m.Y >= r.env().Height || r.help != nil {
		return nil
	}
	switch msg.(type) {
	case tea.MouseClickMsg:
		return r.front().Update(r.env(), tea.MouseClickMsg(m))
	case tea.MouseWheelMsg:
		return r.front().Update(r.env(), tea.MouseWheelMsg(m))
	}
	return nil
}
