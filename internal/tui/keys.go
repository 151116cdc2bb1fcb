package tui

import (
	"strconv"
	"time"

	tea "charm.land/bubbletea/v2"
)

// action is a key of the root and what it does. The help and the footer are made of these.
type action struct {
	Binding
	when func(*root) bool // nil: always
	do   func(r *root, key string) tea.Cmd
}

// quiet wraps what gives no command.
func quiet(f func(r *root)) func(*root, string) tea.Cmd {
	return func(r *root, _ string) tea.Cmd {
		f(r)
		return nil
	}
}

// can tells whether the page in front has the methods of P.
func can[P any](r *root) bool {
	_, ok := r.front().(P)
	return ok
}

func rootActions() []action {
	return []action{
		{Binding{Keys: []string{"esc"}, Help: "back", Hint: true}, func(r *root) bool { return len(r.tabs[r.tab]) > 1 || filtered(r) }, quiet(func(r *root) { r.back() })},
		{Binding{Keys: []string{"space"}, Help: "play, stop", Hint: true}, replaying, func(r *root, _ string) tea.Cmd { return r.steer(playStop) }},
		{Binding{Keys: []string{"left", "right"}, Show: "←/→", Help: "step 1 s back, forth", Hint: true}, replaying, func(r *root, key string) tea.Cmd {
			if key == "left" {
				return r.steer(stepBack)
			}
			return r.steer(stepForth)
		}},
		{Binding{Keys: []string{"shift+left", "shift+right"}, Show: "⇧←/→", Help: "step 10 s"}, replaying, func(r *root, key string) tea.Cmd {
			if key == "shift+left" {
				return r.steer(leapBack)
			}
			return r.steer(leapForth)
		}},
		{Binding{Keys: []string{"-", "+", "="}, Show: "-/+", Help: "slower, faster", Hint: true}, replaying, func(r *root, key string) tea.Cmd {
			if key == "-" {
				return r.steer(slower)
			}
			return r.steer(faster)
		}},
		{Binding{Keys: []string{"/"}, Help: "filter", Hint: true}, can[Filterer], quiet((*root).askFilter)},
		{Binding{Keys: []string{"x"}, Help: "cancel the request", Hint: true}, cancelable, quiet((*root).askCancel)},
		{Binding{Keys: []string{"c"}, Help: "call the command", Hint: true}, callable, func(r *root, _ string) tea.Cmd {
			return Open(newCallForm(r.front().(Caller).CallTarget()))
		}},
		{Binding{Keys: []string{"y"}, Help: "copy"}, can[Copier], func(r *root, _ string) tea.Cmd { return r.copy() }},
		{Binding{Keys: []string{"f"}, Help: "freeze", Hint: true}, nil, quiet((*root).freeze)},
		{Binding{Keys: []string{":"}, Help: "command line", Hint: true}, nil, quiet((*root).askCommand)},
		{Binding{Keys: []string{"1", "2", "3", "4", "5", "6", "7"}, Show: "1…7", Help: "page"}, nil, func(r *root, key string) tea.Cmd {
			if n, err := strconv.Atoi(key); err == nil && n <= len(r.tabs) {
				r.goTab(n - 1)
			}
			return nil
		}},
		{Binding{Keys: []string{"tab"}, Show: "⇥", Help: "next page"}, nil, quiet(func(r *root) { r.goTab((r.tab + 1) % len(r.tabs)) })},
		{Binding{Keys: []string{"shift+tab"}, Show: "⇧⇥", Help: "page before"}, nil, quiet(func(r *root) { r.goTab((r.tab + len(r.tabs) - 1) % len(r.tabs)) })},
		{Binding{Keys: []string{"w"}, Help: "write the view to a file"}, nil, func(r *root, _ string) tea.Cmd { return r.write() }},
		{Binding{Keys: []string{"m"}, Help: "mouse on/off, to select text"}, nil, func(r *root, _ string) tea.Cmd {
			r.mouse = !r.mouse
			if r.mouse {
				return r.tell("mouse on", false)
			}
			return r.tell("mouse off: the terminal selects text; m turns it on again", false)
		}},
		{Binding{Keys: []string{"ctrl+l"}, Help: "draw anew"}, nil, func(*root, string) tea.Cmd { return tea.ClearScreen }},
		{Binding{Keys: []string{"?"}, Help: "help", Hint: true}, nil, quiet((*root).showHelp)},
		{Binding{Keys: []string{"q"}, Help: "quit", Hint: true}, nil, func(*root, string) tea.Cmd { return tea.Quit }},
	}
}

func replaying(r *root) bool { return r.timeline != nil }

func filtered(r *root) bool {
	f, ok := r.front().(Filterer)
	return ok && f.Filter() != ""
}

func callable(r *root) bool {
	c, ok := r.front().(Caller)
	return ok && r.control != nil && c.CallTarget() != ""
}

func cancelable(r *root) bool {
	c, ok := r.front().(Canceler)
	if !ok || r.control == nil {
		return false
	}
	_, ok = c.CancelTarget()
	return ok
}

func (r *root) freeze() {
	if r.frozen.IsZero() {
		r.frozen = r.clock()
		return
	}
	r.frozen = time.Time{}
	r.refresh()
}
