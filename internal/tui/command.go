package tui

import (
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/tui/screen"
)

const maxOffers = 200 // completions that are looked at

// commandPrompt is the command line.
type commandPrompt struct {
	input  screen.Input
	offers []string // completions of what is typed
	at     int      // the one that tab has chosen; -1: none
}

func (r *root) askCommand() {
	p := &commandPrompt{at: -1}
	r.prompt = p
	p.complete(r)
}

func (p *commandPrompt) update(r *root, msg tea.Msg) tea.Cmd {
	if key, ok := msg.(tea.KeyPressMsg); ok {
		switch key.String() {
		case "esc":
			r.prompt = nil
			return nil
		case "enter":
			r.prompt = nil
			line := p.input.Text()
			if p.at < 0 && len(p.offers) == 1 { // as much as says which one
				line = p.offers[0]
			}
			return r.command(line)
		case "tab", "shift+tab":
			if n := len(p.offers); n > 0 {
				step := 1
				if key.String() == "shift+tab" {
					step = n - 1
				}
				p.at = (max(p.at, step-2) + step) % n
				p.input.SetText(p.offers[p.at])
			}
			return nil
		}
	}
	if p.input.Update(msg) {
		p.complete(r)
	}
	return nil
}

func (p *commandPrompt) complete(r *root) {
	p.at, p.offers = -1, nil
	typed := strings.ToLower(strings.TrimSpace(p.input.Text()))
	for _, offer := range r.offers() {
		if strings.HasPrefix(strings.ToLower(offer), typed) {
			p.offers = append(p.offers, offer)
		}
		if len(p.offers) == maxOffers {
			return
		}
	}
}

func (p *commandPrompt) draw(r *root, l *screen.Line) {
	note := "no such page, node, worker or command"
	st := r.theme.Bad
	if len(p.offers) > 0 {
		note, st = "⇥ "+strings.Join(p.offers[max(0, p.at):min(len(p.offers), max(0, p.at)+8)], "  "), r.theme.Muted
	}
	drawInput(r, l, ":", &p.input, note, st)
}

// offers are all lines that the command line knows.
func (r *root) offers() []string {
	var all []string
	for _, stack := range r.tabs {
		all = append(all, strings.ToLower(stack[0].Title()))
	}
	all = append(all, "freeze", "help", "quit", "write")
	for _, name := range screen.Names() {
		all = append(all, "theme "+name)
	}
	var workers []string
	for i := range r.picture.Nodes {
		workers = append(workers, r.picture.Nodes[i].Worker)
	}
	slices.Sort(workers)
	all = append(all, slices.Compact(workers)...)
	for i := range r.picture.Commands {
		all = append(all, r.picture.Commands[i].Name)
	}
	for i := range r.picture.Nodes {
		all = append(all, r.picture.Nodes[i].Name)
	}
	return all
}

// command does what was typed at `:`.
func (r *root) command(line string) tea.Cmd {
	line = strings.TrimSpace(line)
	for i, stack := range r.tabs {
		if strings.EqualFold(line, stack[0].Title()) {
			r.goTab(i)
			return nil
		}
	}
	verb, arg, _ := strings.Cut(line, " ")
	switch verb {
	case "":
		return nil
	case "q", "quit", "exit":
		return tea.Quit
	case "freeze":
		r.freeze()
		return nil
	case "help":
		r.showHelp()
		return nil
	case "write":
		return r.write()
	case "theme":
		before := r.themeName
		r.themeName = strings.TrimSpace(arg)
		if err := r.dress(); err != nil {
			r.themeName = before
			return r.tell(err.Error(), true)
		}
		return nil
	}
	return r.jump(line)
}

// jump goes to what has a name. Names come from the network: none of them is a command.
func (r *root) jump(name string) tea.Cmd {
	for i, stack := range r.tabs {
		if j, ok := stack[0].(Jumper); ok {
			stack[0].Refresh(r.env()) // it may not have been in front for long
			if cmd := j.Jump(r.env(), name); cmd != nil {
				r.tabs[i] = stack[:1]
				r.goTab(i)
				return cmd
			}
		}
	}
	for i, stack := range r.tabs {
		if strings.EqualFold(name, stack[0].Title()) {
			r.goTab(i)
			return nil
		}
	}
	return r.tell(fmt.Sprintf("no page, node, worker or command is called %q", name), true)
}
