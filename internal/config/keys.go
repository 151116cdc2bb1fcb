package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/meshctl/meshctl/internal/bounded"
	"github.com/meshctl/meshctl/internal/mesh/seal"
)

// KeysFileName is the keys file that is looked for where none is named.
const KeysFileName = "keys.yaml"

// KeyRing is the keys that were found and where they came from.
type KeyRing struct {
	Keys seal.Keys // for new links
	// Accepted are further keys that links may come with.
	Accepted []seal.Keys
	// Source is the keys file, or "environment".
	Source string
	// Created says that this call drew the keys and wrote the file.
	Created bool
	// Warning says, where it is not empty, why the file is not safe as it lies
	// there, and what to type against it.
	Warning string
}

// environmentSource is KeyRing.Source of keys that are in no file.
const environmentSource = "environment"

// Open makes the ring that a process lives with. What becomes of it is written to the
// keys file, if the keys come from one.
func (r KeyRing) Open() (*seal.Ring, error) {
	return seal.NewRing(append([]seal.Keys{r.Keys}, r.Accepted...), r.store())
}

// LoadKeys is FindKeys, but makes the user's own keys file with random keys when
// there are none yet. Processes that make it at the same time agree on one pair.
func (c *Config) LoadKeys() (KeyRing, error) {
	ring, err := c.FindKeys()
	var missing *noKeysError
	if !errors.As(err, &missing) {
		return ring, err
	}
	created, err := CreateKeysFile(missing.path)
	if err != nil {
		return KeyRing{}, fmt.Errorf("%w; set MESHCTL_KEYS, or MESHCTL_PUBLIC_KEY and MESHCTL_PRIVATE_KEY", err)
	}
	// Read it back: another process may have been first.
	ring, err = ReadKeysFile(missing.path)
	ring.Created = created
	return ring, err
}

// noKeysError says that no place has keys, and where they would be made.
type noKeysError struct{ path string }

func (e *noKeysError) Error() string { return "find keys: there are none yet" }

// FindKeys finds the keys: the environment's, those of the keys file in the
// configuration, keys.yaml beside the configuration file, and then the user's own
// keys file. It writes nothing. No error quotes a key.
func (c *Config) FindKeys() (KeyRing, error) {
	public, _ := c.env.env("MESHCTL_PUBLIC_KEY")
	private, _ := c.env.env("MESHCTL_PRIVATE_KEY")
	if public != "" || private != "" {
		if public == "" || private == "" {
			return KeyRing{}, Problems{{"MESHCTL_PUBLIC_KEY and MESHCTL_PRIVATE_KEY", "only one of the two is set: set both, or neither"}}
		}
		keys := seal.Keys{Public: public, Private: private}
		if err := keys.Validate(); err != nil {
			return KeyRing{}, fmt.Errorf("keys of the environment: %w", err)
		}
		return KeyRing{Keys: keys, Source: environmentSource}, nil
	}
	if c.KeysFile != "" {
		path := c.env.path(c.KeysFile)
		ring, err := ReadKeysFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return KeyRing{}, &NotFoundError{What: "keys file", Path: path, Hint: "meshctl init DIR writes one with new keys to DIR/" + KeysFileName}
		}
		return ring, err
	}
	if c.File != "" {
		ring, err := ReadKeysFile(filepath.Join(filepath.Dir(c.File), KeysFileName))
		if !errors.Is(err, fs.ErrNotExist) {
			return ring, err
		}
	}
	dir, err := c.env.UserConfigDir()
	if err != nil {
		return KeyRing{}, fmt.Errorf("find the folder of the keys file: %w; set MESHCTL_KEYS, or MESHCTL_PUBLIC_KEY and MESHCTL_PRIVATE_KEY", err)
	}
	path := filepath.Join(dir, appDir, KeysFileName)
	ring, err := ReadKeysFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return KeyRing{}, &noKeysError{path}
	}
	return ring, err
}

// ReadKeysFile reads a keys file. The error is fs.ErrNotExist where there is none,
// and Problems where it is malformed.
func ReadKeysFile(path string) (KeyRing, error) {
	data, err := bounded.ReadFile(path, maxFile)
	if err != nil {
		return KeyRing{}, fmt.Errorf("read keys: %w", err)
	}
	keys, err := parseKeys(path, data)
	if err != nil {
		return KeyRing{}, err
	}
	ring := KeyRing{Keys: keys[0], Accepted: keys[1:], Source: path}
	// Windows has access lists, which the mode bits do not tell of.
	if st, err := os.Stat(path); err == nil && runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		ring.Warning = fmt.Sprintf("keys file %s can be read by others (mode %04o): chmod 600 %s", path, st.Mode().Perm(), quote(path))
	}
	return ring, nil
}

// quote makes a path fit to be pasted into a shell.
func quote(path string) string {
	for _, r := range path {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		case r == '/' || r == '.' || r == '-' || r == '_':
		default:
			return strconv.Quote(path)
		}
	}
	return path
}

// CreateKeysFile writes new random keys to path (mode 0600, its folder 0700) unless
// the file exists, and tells whether it did. The file appears complete or not at all.
func CreateKeysFile(path string) (created bool, err error) {
	if _, err := os.Lstat(path); err == nil {
		return false, nil
	}
	keys, err := seal.GenerateKeys()
	if err != nil {
		return false, fmt.Errorf("generate keys: %w", err)
	}
	text, err := keysText([]seal.Keys{keys})
	if err != nil {
		return false, fmt.Errorf("write keys: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return false, fmt.Errorf("create keys file: %w", err)
	}
	created, err = createFile(path, text)
	if err != nil {
		return false, fmt.Errorf("create keys file: %w", err)
	}
	return created, nil
}

// createFile writes a new file in one step; of several processes one does.
func createFile(path string, data []byte) (created bool, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return false, err
	}
	switch err := os.Link(tmp.Name(), path); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrExist):
		return false, nil
	}
	// A file system without hard links: exclusive creation is all there is.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = f.Write(data)
	return err == nil, errors.Join(err, f.Close())
}
