package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
	"go.yaml.in/yaml/v3"

	"github.com/meshctl/meshctl/internal/mesh/seal"
)

// keysComment heads every keys file that is written.
const keysComment = `# Keys of a mesh. All its members need the same. Keep this file to yourself: whoever has
# it is a member. The first two are used for new links; those under "accepted", at most
# three pairs, are taken from others as well (meshctl keys).
`

// keysLock is how long a process waits for others that write the same keys file.
const keysLock = 5 * time.Second

// pairText is how a key lies in a keys file.
type pairText struct {
	Public  string `yaml:"public"`
	Private string `yaml:"private"`
}

// keysText is a keys file with these keys, the used one first.
func keysText(keys []seal.Keys) ([]byte, error) {
	file := struct {
		pairText `yaml:",inline"`
		Accepted []pairText `yaml:"accepted,omitempty"`
	}{pairText: pairText(keys[0])}
	for _, k := range keys[1:] {
		file.Accepted = append(file.Accepted, pairText(k))
	}
	text := bytes.NewBufferString(keysComment)
	enc := yaml.NewEncoder(text)
	enc.SetIndent(2)
	err := errors.Join(enc.Encode(file), enc.Close())
	return text.Bytes(), err
}

// parseKeys reads a keys file, the used key first.
func parseKeys(name string, data []byte) ([]seal.Keys, error) {
	fields, problems := parseFlat(name, data)
	var accepted *field
	if i := slices.IndexFunc(fields, func(f field) bool { return f.key == "accepted" }); i >= 0 {
		accepted = &fields[i]
		fields = slices.Delete(slices.Clone(fields), i, i+1)
	}
	first, more := parsePair(name+":1", "a keys file", fields)
	problems = append(problems, more...)
	keys := []seal.Keys{first}
	if accepted != nil {
		others, more := parseAccepted(name, *accepted, first)
		keys, problems = append(keys, others...), append(problems, more...)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return keys, nil
}

func parseAccepted(name string, f field, used seal.Keys) (keys []seal.Keys, problems Problems) {
	if f.value.Kind != yaml.SequenceNode {
		return nil, Problems{{f.where, "accepted: is not a list of keys"}}
	}
	if len(f.value.Content) >= seal.MaxRing {
		return nil, Problems{{f.where, fmt.Sprintf("more than %d keys: remove those that are no longer needed", seal.MaxRing)}}
	}
	seen := []seal.Keys{used}
	for _, n := range f.value.Content {
		where := fmt.Sprintf("%s:%d", name, n.Line)
		if n.Kind != yaml.MappingNode {
			problems = append(problems, Problem{where, "is not a pair of public and private"})
			continue
		}
		fields, more := mapping(name, n)
		k, wrong := parsePair(where, "a key", fields)
		problems = append(append(problems, more...), wrong...)
		if slices.ContainsFunc(seen, func(other seal.Keys) bool { return other.Private == k.Private && k.Private != "" }) {
			problems = append(problems, Problem{where, "this private key was there before: remove one of the two"})
		}
		seen, keys = append(seen, k), append(keys, k)
	}
	return keys, problems
}

// parsePair reads public and private. what is what has them.
func parsePair(where, what string, fields []field) (keys seal.Keys, problems Problems) {
	for _, f := range fields {
		text, tag, err := f.scalar()
		switch {
		case f.key != "public" && f.key != "private":
			problems = append(problems, Problem{f.where, fmt.Sprintf("unknown key %q: %s has public and private", clip(f.key), what)})
		case err != nil:
			problems = append(problems, Problem{f.where, f.key + ": " + err.Error()})
		case tag != "!!str":
			problems = append(problems, Problem{f.where, f.key + ": is not a text: write it in quotes"})
		case text == "":
			problems = append(problems, Problem{f.where, f.key + ": is empty"})
		case f.key == "public":
			keys.Public = text
		default:
			keys.Private = text
		}
	}
	switch {
	case len(problems) > 0:
	case keys.Public == "" || keys.Private == "":
		problems = Problems{{where, what + " has two lines, \"public: …\" and \"private: …\""}}
	default:
		if err := keys.Validate(); err != nil {
			problems = Problems{{where, err.Error()}}
		}
	}
	return keys, problems
}

// Update changes what the keys are stored in: see seal.Store.
func (r KeyRing) Update(change func([]seal.Keys) ([]seal.Keys, error)) error {
	return r.store().Update(change)
}

func (r KeyRing) store() seal.Store {
	if r.Source == environmentSource {
		return environmentStore{}
	}
	return keysFile(r.Source)
}

// environmentStore cannot be changed.
type environmentStore struct{}

func (environmentStore) Update(func([]seal.Keys) ([]seal.Keys, error)) error {
	return errors.New("the keys come from the environment")
}

// keysFile is a keys file that keeps a ring.
type keysFile string

// Update implements seal.Store. Other processes may do the same; the file is replaced in
// one step, and only when it changes.
func (f keysFile) Update(change func([]seal.Keys) ([]seal.Keys, error)) error {
	path, err := filepath.EvalSymlinks(string(f))
	if err != nil {
		return fmt.Errorf("change keys: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), keysLock)
	defer cancel()
	lock := flock.New(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock"), flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, 20*time.Millisecond); err != nil {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	defer lock.Close()
	now, err := ReadKeysFile(path)
	if err != nil {
		return err
	}
	old := append([]seal.Keys{now.Keys}, now.Accepted...)
	keys, err := change(old)
	if err != nil || slices.Equal(keys, old) {
		return err
	}
	text, err := keysText(keys)
	if err == nil {
		err = replaceFile(path, text)
	}
	if err != nil {
		return fmt.Errorf("change keys: %w", err)
	}
	return nil
}

// replaceFile writes a file (mode 0600), which appears complete or not at all.
func replaceFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
