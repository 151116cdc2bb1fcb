package meshtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Program builds meshctl into a folder and gives the path of it.
func Program(dir string) (string, error) {
	path := filepath.Join(dir, "meshctl")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/meshctl/meshctl/cmd/meshctl").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build meshctl: %w\n%s", err, out)
	}
	return path, nil
}

// MainWithProgram is what TestMain calls in a package whose tests start meshctl: it builds it, sets path to where it
// is, runs the tests, and exits.
func MainWithProgram(m *testing.M, path *string) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "meshctl-test-")
		if err == nil {
			defer os.RemoveAll(dir)
			*path, err = Program(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}
