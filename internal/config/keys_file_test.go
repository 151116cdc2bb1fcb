package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/seal"
)

func keysAt(t *testing.T) (path string, first seal.Keys) {
	t.Helper()
	path = filepath.Join(t.TempDir(), KeysFileName)
	if _, err := CreateKeysFile(path); err != nil {
		t.Fatal(err)
	}
	r, err := ReadKeysFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, r.Keys
}

func draw(t *testing.T) seal.Keys {
	t.Helper()
	k, err := seal.GenerateKeys()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A ring that is opened, changed and opened again is the same.
func TestKeysFileKeepsTheRing(t *testing.T) {
	path, first := keysAt(t)
	file, err := ReadKeysFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := file.Open()
	if err != nil {
		t.Fatal(err)
	}
	k, err := r.Add(draw(t))
	if err == nil {
		err = r.Use(k.Fingerprint())
	}
	if err != nil || r.Stored() != nil {
		t.Fatalf("%v, stored %v", err, r.Stored())
	}
	file, err = ReadKeysFile(path)
	if err != nil || file.Keys != k.Keys() || !slices.Equal(file.Accepted, []seal.Keys{first}) {
		t.Errorf("the file has %d more keys, %v", len(file.Accepted), err)
	}
	if st, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 2 { // with the lock
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Processes that share a file lose no key of each other.
func TestKeysFileIsShared(t *testing.T) {
	path, first := keysAt(t)
	var wg sync.WaitGroup
	want := []seal.Keys{first}
	for range seal.MaxRing - 1 {
		k := draw(t)
		want = append(want, k)
		wg.Go(func() {
			file, err := ReadKeysFile(path)
			if err != nil {
				t.Error(err)
				return
			}
			if err := file.Update(func(all []seal.Keys) ([]seal.Keys, error) { return seal.Added(all, k) }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	file, err := ReadKeysFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range want {
		if !slices.Contains(append(file.Accepted, file.Keys), k) {
			t.Error("a key is lost")
		}
	}
}

// What cannot be written leaves the file as it was.
func TestKeysFileStaysIntact(t *testing.T) {
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		t.Log("modes keep nobody from writing here")
	}
	path, _ := keysAt(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	intact := func() {
		t.Helper()
		if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
			t.Errorf("the file changed: %v", err)
		}
	}
	failed := errors.New("no")
	if err := keysFile(path).Update(func([]seal.Keys) ([]seal.Keys, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Errorf("a change that fails: %v", err)
	}
	intact()
	dir := filepath.Dir(path)
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	file, err := ReadKeysFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := file.Open()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && os.Geteuid() != 0 {
		if _, err := r.Add(draw(t)); err != nil || !errors.Is(r.Stored(), seal.ErrNotStored) {
			t.Errorf("a folder that cannot be written: %v, stored %v", err, r.Stored())
		}
		intact()
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// Somebody else cut the file off: it is not overwritten with what this process knows.
	before = before[:len(before)/2]
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(draw(t)); err != nil || !errors.Is(r.Stored(), seal.ErrNotStored) {
		t.Errorf("a truncated file: %v, stored %v", err, r.Stored())
	}
	intact()
	if strings.Contains(fmt.Sprint(r.Stored()), file.Keys.Private) {
		t.Error("the error shows a key")
	}
	// A folder in the place of the file cannot be replaced.
	if err := errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(path, []byte("x")); err == nil {
		t.Error("a folder was replaced")
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".keys.yaml.*")); err != nil || len(left) != 1 { // the lock
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestKeysFileThroughLink(t *testing.T) {
	path, first := keysAt(t)
	symlink := filepath.Join(t.TempDir(), "link.yaml")
	if err := os.Symlink(path, symlink); err != nil {
		t.Skip("no symbolic links here")
	}
	k := draw(t)
	if err := keysFile(symlink).Update(func(all []seal.Keys) ([]seal.Keys, error) { return seal.Preferred(all, k) }); err != nil {
		t.Fatal(err)
	}
	file, err := ReadKeysFile(path)
	if err != nil || file.Keys != k || !slices.Equal(file.Accepted, []seal.Keys{first}) {
		t.Errorf("the file that is linked to has not changed: %v", err)
	}
	if st, err := os.Lstat(symlink); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v", err)
	}
}

func TestKeysOfTheEnvironmentStay(t *testing.T) {
	e, _ := place(t, map[string]string{"MESHCTL_PUBLIC_KEY": "public", "MESHCTL_PRIVATE_KEY": "private"})
	file, err := mustLoad(t, e, "").FindKeys()
	if err != nil {
		t.Fatal(err)
	}
	r, err := file.Open()
	if err != nil || r.Stored() != nil {
		t.Fatalf("%v, stored %v", err, r.Stored())
	}
	if _, err := r.Add(draw(t)); err != nil || !strings.Contains(fmt.Sprint(r.Stored()), "environment") {
		t.Errorf("%v, stored %v", err, r.Stored())
	}
}
