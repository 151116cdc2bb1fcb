package handler

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/schema"
)

// program is what an exec or stdio method starts.
type program struct {
	path string // absolute
	argv []string
	dir  string   // absolute, or "" for this process's
	env  []string // names passed through, sorted
}

// newProgram looks the program up. A name without a slash is searched in PATH; a
// relative path is relative to the method's directory, which is itself relative to
// schemaDir.
func newProgram(argv []string, m *schema.Method, schemaDir string) (program, error) {
	p := program{argv: slices.Clone(argv)}
	dir := m.Dir
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(schemaDir, dir)
	}
	if dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return program{}, fmt.Errorf("find working directory: %w", err)
		}
		if st, err := os.Stat(abs); err != nil {
			return program{}, fmt.Errorf("find working directory: %w", err)
		} else if !st.IsDir() {
			return program{}, fmt.Errorf("find working directory: %s is not a directory", abs)
		}
		p.dir = abs
	}
	name := argv[0]
	if strings.ContainsRune(name, '/') || filepath.Base(name) != name {
		if !filepath.IsAbs(name) {
			name = filepath.Join(p.dir, name)
		}
		abs, err := filepath.Abs(name)
		if err != nil {
			return program{}, fmt.Errorf("find program: %w", err)
		}
		name = abs
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return program{}, fmt.Errorf("find program: %w", err)
	}
	if p.path, err = filepath.Abs(path); err != nil {
		return program{}, fmt.Errorf("find program: %w", err)
	}
	for _, name := range m.Env {
		if err := checkEnvName(name); err != nil {
			return program{}, err
		}
		p.env = append(p.env, name)
	}
	slices.Sort(p.env)
	p.env = slices.Compact(p.env)
	return p, nil
}

// checkEnvName refuses the mesh's private key, which no program ever gets.
func checkEnvName(name string) error {
	upper := strings.ToUpper(name)
	switch {
	case name == "" || strings.ContainsAny(name, "=\x00"):
		return fmt.Errorf("%q is no name of an environment variable", name)
	case strings.HasPrefix(upper, "MESHCTL_") && strings.Contains(upper, "PRIVATE"):
		return errors.New(name + " is never passed to a program")
	}
	return nil
}

// key is equal for programs that are started in the same way.
func (p program) key() string {
	return strings.Join(slices.Concat([]string{p.path, p.dir, fmt.Sprint(len(p.argv))}, p.argv, p.env), "\x00")
}

// prepare sets cmd up to start the program in a process group of its own, with the
// minimal environment and extra.
func (p program) prepare(cmd *exec.Cmd, extra ...string) *group {
	cmd.Path, cmd.Args, cmd.Dir = p.path, p.argv, p.dir
	cmd.Env = append(p.environ(), extra...)
	return newGroup(cmd)
}

func (p program) environ() []string {
	names := []string{"PATH", "HOME", "LANG", "TMPDIR"}
	if runtime.GOOS == "windows" {
		names = append(names, "SYSTEMROOT", "TEMP", "TMP", "USERPROFILE", "PATHEXT", "COMSPEC")
	}
	var env []string
	for _, name := range slices.Concat(names, p.env) {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
