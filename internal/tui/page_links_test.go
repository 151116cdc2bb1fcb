package tui

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/tui/tuitest"
)

func TestTheMatrixCountsTheLinks(t *testing.T) {
	p := tuitest.Picture(40, 10)
	r := dashboard(t, p, "dark", usual)
	press(r, ":links")
	page := r.front().(*links)
	up, missing := 0, 0
	for _, sum := range page.pairs {
		up += sum.up
		missing += sum.missing
	}
	if up != p.Totals.Links || missing != p.Totals.MissingLinks || missing == 0 {
		t.Errorf("the matrix has %d links and %d missing, the mesh %d and %d", up, missing, p.Totals.Links, p.Totals.MissingLinks)
	}
	wants(t, r, fmt.Sprintf("✖ %d missing", page.pairs[pair{"billing", "mailer"}].missing)) // the cursor begins there
}

func TestNextMissingFindsAllMissing(t *testing.T) {
	p := tuitest.Picture(13, 10)
	r := dashboard(t, p, "dark", usual)
	press(r, ":links", "enter")
	want := 0
	for _, l := range p.Links {
		if l.Missing && strings.HasPrefix(l.From, "billing/") && strings.HasPrefix(l.To, "mailer/") {
			want++
		}
	}
	found := map[pair]bool{}
	for range 20 {
		press(r, "n")
		page := r.front().(*pairPage)
		row, column, _ := page.matrix.Selected()
		k := pair{page.rows[row], page.columns[column]}
		if l := page.links[k]; l == nil || !l.Missing {
			t.Fatalf("n went to %v, which is not missing", k)
		}
		found[k] = true
	}
	if len(found) != want || want == 0 {
		t.Errorf("n found %d of %d", len(found), want)
	}
	wants(t, r, "missing  the schema asks for it")
}

func TestTheCursorOfTheMatrixStaysOnItsPair(t *testing.T) {
	r := dashboard(t, tuitest.Picture(13, 10), "dark", usual)
	press(r, ":links", "end", "up") // mailer → search
	page := r.front().(*links)
	before := tuitest.Picture(13, 10)
	var nodes []inspect.Node
	for _, n := range before.Nodes {
		if n.Worker != "billing" {
			nodes = append(nodes, n)
		}
	}
	before.Nodes, before.Links, before.Schema = nodes, nil, nil
	page.Refresh(Env{Picture: before})
	row, column, ok := page.matrix.Selected()
	if !ok || page.workers[row] != "mailer" || page.workers[column] != "search" {
		t.Errorf("the cursor is on %s → %s", page.workers[row], page.workers[column])
	}
}

// TestANodesNumbers compares the page of a node with the picture.
func TestANodesNumbers(t *testing.T) {
	p := tuitest.Picture(13, 60)
	r := dashboard(t, p, "dark", size{200, 60})
	press(r, ":search/1")
	page := r.front().(*nodePage)
	if page.links.Total() != page.node.Links || page.links.Total() == 0 {
		t.Errorf("%d links are listed of %d", page.links.Total(), page.node.Links)
	}
	for _, l := range page.linkRows {
		if total := l.sent() + l.got(); total != l.RateOut+l.RateBack {
			t.Errorf("%s: sent and got are %v, the link has %v", l.peer, total, l.RateOut+l.RateBack)
		}
	}
	if page.commands.Total() != 3 {
		t.Errorf("%d commands", page.commands.Total())
	}
	// It leaves: the page says so.
	r.take = nil
	r.picture = tuitest.Empty()
	page.Refresh(r.env())
	r.frame = ""
	wants(t, r, "search/1 left the mesh")
}
