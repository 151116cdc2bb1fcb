package tui

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/meshctl/meshctl/internal/tui/screen"
)

// maxCopy is what terminals take with OSC 52 at least.
const maxCopy = 64 << 10

// copy puts what the page offers on the clipboard of the terminal, by OSC 52.
func (r *root) copy() tea.Cmd {
	text, what := r.front().(Copier).Copy()
	switch {
	case text == "":
		return r.tell("nothing to copy here", true)
	case len(text) > maxCopy:
		return r.tell("too much to copy; w writes it to a file", true)
	}
	seq := ansi.SetSystemClipboard(text)
	if r.inTmux { // tmux takes it where set-clipboard is on, and passes it on where allow-passthrough is
		seq += ansi.TmuxPassthrough(seq)
	}
	return tea.Batch(tea.Raw(seq), r.tell("copied "+what+", if the terminal allows it (OSC 52)", false))
}

// write puts the view into a new file of the working directory, as plain text.
func (r *root) write() tea.Cmd {
	env := r.env()
	var body []string
	if e, ok := r.front().(Exporter); ok {
		body = e.Export(env)
	} else {
		body = r.front().Draw(env)
	}
	var b strings.Builder
	for _, line := range append([]string{r.header(), r.titleLine(env)}, body...) {
		b.WriteString(screen.Plain(line))
		b.WriteByte('\n')
	}
	text, name := b.String(), fileName(r.front().Title())+"-"+r.clock().Format("20060102-150405")
	dir := r.writeDir
	return func() tea.Msg {
		path, err := writeNew(dir, name, text)
		if err != nil {
			return flashMsg{fmt.Sprintf("write the view: %v", err), true}
		}
		return flashMsg{text: "written to " + path}
	}
}

// fileName keeps of a title what is safe in a file's name.
func fileName(title string) string {
	name := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			return c
		case c >= 'A' && c <= 'Z':
			return c - 'A' + 'a'
		}
		return '-'
	}, title)
	return "meshctl-" + name[:min(len(name), 40)]
}

// writeNew writes a file that is not there yet, whose name is name, perhaps with a number.
func writeNew(dir, name, text string) (string, error) {
	for i := range 100 {
		path := filepath.Join(dir, name+".txt")
		if i > 0 {
			path = filepath.Join(dir, fmt.Sprintf("%s-%d.txt", name, i+1))
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = f.WriteString(text)
		return path, errors.Join(err, f.Close())
	}
	return "", fmt.Errorf("all names like %s.txt are taken", name)
}
