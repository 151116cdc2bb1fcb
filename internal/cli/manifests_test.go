package cli

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// The manifests, units and compose file in configs/ run meshctl with command lines and
// variables that no compiler sees.

// shipped is one command line in them.
type shipped struct {
	file string
	args []string
	env  []string // names of variables
}

func TestShippedCommandLines(t *testing.T) {
	root := filepath.Join("..", "..", "configs")
	var all []shipped
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		switch filepath.ToSlash(filepath.Dir(name)) {
		case "systemd":
			all = append(all, ofUnit(t, name, string(data)))
		case "kubernetes":
			if filepath.Ext(path) == ".yaml" {
				all = append(all, ofYAML(t, name, data)...)
			}
		case ".":
			if name == "compose.yaml" {
				all = append(all, ofYAML(t, name, data)...)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	commands := map[string]int{}
	for _, s := range all {
		if cmd := s.parse(t); cmd != nil {
			commands[cmd.Name()]++
		}
	}
	if commands[config.CmdServeMaster] < 3 || commands[config.CmdJoin] < 4 {
		t.Errorf("found only these commands: %v", commands)
	}
}

// parse parses the line with the real commands, and checks the variables.
func (s shipped) parse(t *testing.T) *cobra.Command {
	t.Helper()
	cmd, rest, err := newCmdRoot(testApp(t)).Find(s.args)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err != nil {
		t.Errorf("%s: meshctl %s: %v", s.file, strings.Join(s.args, " "), err)
		return nil
	}
	for _, name := range s.env {
		known := slices.ContainsFunc(config.Settings(), func(x config.Setting) bool {
			return slices.Contains(x.EnvNames(), name) && (x.Secret || x.Has(cmd.Name()))
		})
		// What a line refers to by name is no setting.
		if used := slices.ContainsFunc(s.args, func(a string) bool { return strings.Contains(a, "$("+name+")") }); !known && !used {
			t.Errorf("%s: meshctl %s takes no variable %s", s.file, cmd.Name(), name)
		}
	}
	return cmd
}

var (
	execStart = regexp.MustCompile(`(?m)^ExecStart=/usr/bin/meshctl (.*)$`)
	unitEnv   = regexp.MustCompile(`\b(MESHCTL_\w+)=`) // also in comments, for EnvironmentFile
)

func ofUnit(t *testing.T, name, text string) shipped {
	t.Helper()
	line := execStart.FindStringSubmatch(text)
	if line == nil {
		t.Fatalf("%s has no ExecStart of /usr/bin/meshctl", name)
	}
	s := shipped{file: name, args: strings.Fields(strings.ReplaceAll(line[1], "%i", "worker"))}
	for _, m := range unitEnv.FindAllStringSubmatch(text, -1) {
		s.env = append(s.env, m[1])
	}
	return s
}

// ofYAML finds what is run in the image "meshctl", in whatever form the file has.
func ofYAML(t *testing.T, name string, data []byte) (all []shipped) {
	t.Helper()
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc any
		err := dec.Decode(&doc)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		walkYAML(doc, func(m map[string]any) {
			if image, _ := m["image"].(string); image != "meshctl" && !strings.HasPrefix(image, "meshctl:") {
				return
			}
			s := shipped{file: name}
			line, _ := m["args"].([]any) // of a container; a service of compose has command
			if line == nil {
				line, _ = m["command"].([]any)
			}
			for _, a := range line {
				text, _ := a.(string)
				s.args = append(s.args, text)
			}
			switch env := m["env"].(type) {
			case []any:
				for _, e := range env {
					variable, _ := e.(map[string]any)
					text, _ := variable["name"].(string)
					s.env = append(s.env, text)
				}
			case nil:
				variables, _ := m["environment"].(map[string]any)
				for text := range variables {
					s.env = append(s.env, text)
				}
			}
			all = append(all, s)
		})
	}
}

// walkYAML visits all mappings.
func walkYAML(v any, visit func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		visit(v)
		for _, x := range v {
			walkYAML(x, visit)
		}
	case []any:
		for _, x := range v {
			walkYAML(x, visit)
		}
	}
}
