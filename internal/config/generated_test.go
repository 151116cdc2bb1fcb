package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the generated files")

// TestGenerated fails when docs/configuration.md or configs/meshctl.yaml differ from
// the table; "make generate" writes them.
func TestGenerated(t *testing.T) {
	root := filepath.Join("..", "..")
	for path, want := range map[string][]byte{
		filepath.Join(root, "docs", "configuration.md"): Reference(),
		filepath.Join(root, "configs", "meshctl.yaml"):  SampleFile(nil),
	} {
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the settings table gives; run make generate", path)
		}
	}
}
