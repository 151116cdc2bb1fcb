// Package bounded reads files and streams that may turn out larger than they should be.
package bounded

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrTooLarge is wrapped by the errors about input over its limit.
var ErrTooLarge = errors.New("too large")

// ReadFile reads a whole file of at most limit bytes.
func ReadFile(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadAll(f, path, limit)
}

// ReadAll reads r to its end, at most limit bytes. The name is for the error.
func ReadAll(r io.Reader, name string, limit int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s: %w: more than %d KiB", name, ErrTooLarge, limit>>10)
	}
	return data, nil
}
