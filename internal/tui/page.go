package tui

import (
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// Page is one view of the mesh. The root shows the page in front, hands it what happens,
// and draws everything around it. A page is used by the root's goroutine only; what takes
// time it does in the tea.Cmd that it returns, which must not touch the page.
type Page interface {
	// Title names the page in its tab and in the breadcrumbs. It may change.
	Title() string
	// Refresh is called before Draw whenever the picture has changed, and when the page
	// comes to the front: make rows of env.Picture here. They may refer to the picture
	// until the next Refresh.
	Refresh(env Env)
	// Update is given keys that the root has no use for, mouse messages whose Y counts
	// from the page's first line, and messages of the page's own commands.
	Update(env Env, msg tea.Msg) tea.Cmd
	// Draw gives at most env.Height lines. The root cuts and fills them to env.Width.
	Draw(env Env) []string
	// Keys are what the page does beyond the root's keys, for the footer and the help.
	Keys() []Binding
}

// Env is what a page may use. Its fields are valid until the call that it was given to
// returns, those of Picture until the next Refresh.
type Env struct {
	Width, Height int // of the page
	Theme         *screen.Theme
	Picture       *inspect.Picture
	Stale         bool            // the master is lost: what the picture says is old
	Control       inspect.Control // nil in a replay
}

// Now is the mesh's time.
func (e Env) Now() time.Time { return e.Picture.At }

// Binding is a key, or several that do the same, and what for.
type Binding struct {
	Keys []string // as tea.KeyPressMsg.String names them
	Show string   // how they are printed; the first of Keys where empty
	Help string   // two or three words
	Hint bool     // it is worth a place in the footer
}

// Matches tells whether a key is one of the binding's.
func (b Binding) Matches(key string) bool {
	for _, k := range b.Keys {
		if k == key {
			return true
		}
	}
	return false
}

func (b Binding) String() string {
	if b.Show != "" {
		return b.Show
	}
	return b.Keys[0]
}

// What a page can do beyond Page, it says by having these methods.
type (
	// Filterer is a page that `/` filters. SetFilter keeps the last good filter when it
	// fails; the error is shown beside what is typed.
	Filterer interface {
		Filter() string
		SetFilter(env Env, text string) error
		Shown() (shown, total int) // a total of 0 is not told
	}
	// Sorter is a page whose order is shown in the line above it.
	Sorter interface {
		Sorted() (column string, descending bool)
	}
	// Copier is a page on which `y` copies something: the text, and what to call it.
	Copier interface {
		Copy() (text, what string)
	}
	// Exporter is a page that has more to write to a file than what is on the screen.
	Exporter interface {
		Export(env Env) []string
	}
	// Caller is a page on which `c` calls the command that is selected, "worker.command".
	Caller interface {
		CallTarget() string
	}
	// Canceler is a page on which `x` cancels the request that is selected.
	Canceler interface {
		CancelTarget() (r inspect.Live, ok bool)
	}
	// Typist is a page that wants all keys but ctrl+c and esc while Typing.
	Typist interface {
		Typing() bool
	}
	// Jumper is a page that can go to something by its name: a node's "worker/variant", a
	// command's "worker.command", or a worker. It gives no command when it cannot.
	Jumper interface {
		Jump(env Env, name string) tea.Cmd
	}
)

type (
	openMsg  struct{ page Page }
	closeMsg struct{}
	jumpMsg  struct{ name string }
	flashMsg struct {
		text string
		bad  bool
	}
)

// Open puts a page on top of the one in front; esc takes it away again.
func Open(p Page) tea.Cmd { return func() tea.Msg { return openMsg{p} } }

// Close takes the page in front away, as esc does.
func Close() tea.Cmd { return func() tea.Msg { return closeMsg{} } }

// Go goes to what has a name, wherever it is shown: a worker, a node, a command, a request
// by its uid, a page by its title.
func Go(name string) tea.Cmd { return func() tea.Msg { return jumpMsg{name} } }

// Tell shows a short text in the footer for a few seconds.
func Tell(text string) tea.Cmd { return func() tea.Msg { return flashMsg{text: text} } }

// Complain is Tell for what went wrong.
func Complain(err error) tea.Cmd { return func() tea.Msg { return flashMsg{err.Error(), true} } }
