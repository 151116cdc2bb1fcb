package tui

import "github.com/meshctl/meshctl/internal/tui/screen"

// pages are the tabs, in the order of their keys.
func pages() []Page {
	return []Page{
		newOverview(),
		newConnections(),
		newLinks(),
		newInFlight(),
		newCommands(),
		newEvents(),
		newQueues(),
	}
}

// tableKeys are the keys of a page that is a table.
func tableKeys(open string) []Binding {
	return []Binding{
		{Keys: []string{"enter"}, Show: "⏎", Help: open, Hint: true},
		{Keys: []string{"s"}, Help: "sort by the next column"},
		{Keys: []string{"S"}, Help: "sort the other way round"},
		{Keys: []string{"up", "down", "k", "j"}, Show: "↑/↓", Help: "move"},
		{Keys: []string{"pgup", "pgdown"}, Show: "⇞/⇟", Help: "move by a page"},
		{Keys: []string{"home", "end", "g", "G"}, Show: "g/G", Help: "first, last"},
	}
}

// empty is a page that has nothing to show, and says why.
func empty(env Env, why string) []string {
	lines := make([]string, max(0, env.Height/2-1), env.Height/2+1)
	text, w := screen.Cut(why, env.Width-2)
	return append(lines, screen.NewLine(env.Width, screen.Style{}).Fill((env.Width-w)/2, screen.Style{}).Text(text, env.Theme.Muted).String())
}
