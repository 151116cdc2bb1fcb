package tui

import (
	"os"
	"strings"
	"testing"
)

// docs/dashboard.md lists the keys that there are.
func TestKeysAreDocumented(t *testing.T) {
	const file = "../../docs/dashboard.md"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	from := strings.Index(text, "<!-- begin: the key map")
	from += strings.Index(text[from:], "\n") + 1
	to := strings.Index(text, "<!-- end -->")
	if from <= 0 || to < from {
		t.Fatalf("%s has no place for the keys", file)
	}
	var table strings.Builder
	table.WriteString("| key | |\n| --- | --- |\n")
	row := func(b Binding) { table.WriteString("| `" + b.String() + "` | " + b.Help + " |\n") }
	for _, b := range tableKeys("open") {
		row(b)
	}
	for _, a := range rootActions() {
		row(a.Binding)
	}
	if *update {
		if err := os.WriteFile(file, []byte(text[:from]+table.String()+text[to:]), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if text[from:to] != table.String() {
		t.Errorf("%s has other keys; go test ./internal/tui -run Keys -update writes those that there are:\n%s", file, table.String())
	}
}
