package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/identity"
)

// IssuerKeyFileName is the issuer's private key in the user's configuration folder.
const IssuerKeyFileName = "issuer.key"

const maxKeyFile = 64 << 10

// IssuerKeyPath is where the issuer's private key lies unless another file is named.
func (e Environment) IssuerKeyPath() (string, error) {
	dir, err := e.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the folder of the issuer key: %w; name a file with --issuer-key", err)
	}
	return filepath.Join(dir, appDir, IssuerKeyFileName), nil
}

// PublicIssuerPath is where the public part of the issuer key at path lies.
func PublicIssuerPath(path string) string { return strings.TrimSuffix(path, ".key") + ".pub" }

// CreateIssuerKey draws an issuer key and writes it to path (mode 0600, its folder
// 0700), and its public part beside it, unless the file exists; it tells whether it did.
func CreateIssuerKey(path string) (created bool, err error) {
	if _, err := os.Lstat(path); err == nil {
		return false, nil
	}
	key, err := identity.NewKey()
	if err != nil {
		return false, err
	}
	private, err := key.Private()
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return false, fmt.Errorf("create issuer key: %w", err)
	}
	if created, err = createFile(path, private); err != nil || !created {
		if err != nil {
			err = fmt.Errorf("create issuer key: %w", err)
		}
		return false, err
	}
	public, err := key.Public()
	if err != nil {
		return true, err
	}
	if err := os.WriteFile(PublicIssuerPath(path), public, 0o644); err != nil {
		return true, fmt.Errorf("write the issuer's public key: %w", err)
	}
	return true, nil
}

// ReadIssuerKey reads the issuer's private key. The warning says, where it is not empty,
// that others can read the file. The error is fs.ErrNotExist where there is none.
func ReadIssuerKey(path string) (key *identity.Key, warning string, err error) {
	data, err := readSmall(path, maxKeyFile)
	if err != nil {
		return nil, "", fmt.Errorf("read issuer key: %w", err)
	}
	key, err = identity.ParseKey(data)
	return key, readableByOthers("issuer key", path), err
}

// ReadIssuer reads the public keys that tokens are checked by.
func ReadIssuer(path string) (*identity.Verifier, error) {
	data, err := readSmall(path, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{What: "issuer's public key", Path: path, Hint: "meshctl token keygen writes it beside the issuer key"}
	}
	if err != nil {
		return nil, fmt.Errorf("read the issuer's public key: %w", err)
	}
	v, err := identity.NewVerifier(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

// ReadToken reads a token from a file. The warning is as of ReadIssuerKey. No error
// quotes a token, even where one was given in place of the file's name.
func ReadToken(path string) (token identity.Token, warning string, err error) {
	if strings.HasPrefix(path, "eyJ") && strings.Count(path, ".") >= 2 {
		return "", "", errors.New("a token is given instead of the name of a file with one: write it to a file, since others can read command lines, and issue another")
	}
	data, err := readSmall(path, identity.MaxLen+16)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", &NotFoundError{What: "token", Path: path, Hint: "meshctl token issue WORKER --out FILE writes one"}
	}
	if err != nil {
		return "", "", fmt.Errorf("read token: %w", err)
	}
	token = identity.Token(strings.TrimSpace(string(data)))
	if _, err := identity.Inspect(token); err != nil {
		return "", "", fmt.Errorf("read token %s: %w", path, err)
	}
	return token, readableByOthers("token", path), nil
}

// WriteToken writes a token to a file (mode 0600), which appears complete and replaces
// a former one.
func WriteToken(path string, t identity.Token) error {
	if err := replaceFile(path, []byte(string(t)+"\n")); err != nil {
		return fmt.Errorf("write token: %w", err)
	}
	return nil
}

func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, err
}

// readableByOthers warns of a file with a secret that others can read. Windows has
// access lists, which the mode bits do not tell of.
func readableByOthers(what, path string) string {
	st, err := os.Stat(path)
	if err != nil || runtime.GOOS == "windows" || st.Mode().Perm()&0o077 == 0 {
		return ""
	}
	return fmt.Sprintf("%s %s can be read by others (mode %04o): chmod 600 %s", what, path, st.Mode().Perm(), quote(path))
}
