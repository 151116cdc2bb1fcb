package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/certs"
	"github.com/meshctl/meshctl/internal/mesh/seal"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// discoveryTimeout bounds one question for the master's port, as in the original.
const discoveryTimeout = 2 * time.Second

// discover asks a discovery port for the master's port, with the used key and then with
// others that this end accepts. Errors are *dialError: unreachable or key_mismatch.
func (c *core) discover(ctx context.Context, at endpoint) (port int, err error) {
	for _, k := range c.ring.Keys() {
		if port, err = c.discoverWith(ctx, at, k); !isMismatch(err) {
			break
		}
	}
	return port, err
}

// discoverWith asks with one key: PROTOCOL section 5.
func (c *core) discoverWith(ctx context.Context, at endpoint, key *seal.Key) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	unreachable := func(err error) error {
		return &dialError{&wire.Error{
			Code: wire.CodeUnreachable, Temporary: true,
			Message: fmt.Sprintf("no master found: ask discovery at %s: %v", at, plain(err)),
			Hint:    hintOf(err, "start one with `meshctl serve-master`, or name it with --master HOST:PORT"),
		}, at.String(), err}
	}
	secure, scheme := c.clientTLS(at.name), "http"
	if secure != nil {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+at.name+"/", nil)
	if err != nil {
		return 0, unreachable(err)
	}
	req.Header["discovery_key"] = []string{key.Keys().Public} // the original's spelling
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: secure, DialContext: at.connect},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if failure := certs.Diagnose(err); failure != nil {
		return 0, unreachable(failure)
	}
	if err != nil {
		return 0, unreachable(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return 0, mismatchAt(at, "another public key")
	default:
		if failure := certs.WantsTLS(resp); failure != nil {
			return 0, unreachable(failure)
		}
		return 0, unreachable(fmt.Errorf("it answers %s", resp.Status))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return 0, unreachable(err)
	}
	text, err := key.Envelope().Open(ctx, strings.TrimSpace(string(body)), nil)
	if errors.Is(err, seal.ErrKeyMismatch) {
		return 0, mismatchAt(at, "another private key")
	} else if err != nil {
		return 0, unreachable(err)
	}
	var answer struct {
		Port int `json:"port"`
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Port < 1 || answer.Port > 65535 {
		return 0, unreachable(errors.New("it answers nonsense"))
	}
	return answer.Port, nil
}

func keyMismatch(message string) *wire.Error {
	return &wire.Error{
		Code: wire.CodeKeyMismatch, Message: message,
		Hint: "use the same keys file (--keys) on both sides; `meshctl keys show` prints the fingerprint",
	}
}

// mismatchAt is the key mismatch of somebody who has not been declared to yet.
func mismatchAt(at endpoint, has string) *dialError {
	return &dialError{keyMismatch("the master at " + at.String() + " has " + has), at.String(), errors.New("it has " + has)}
}

// plain strips addresses and URLs from the errors of net and net/http.
func plain(err error) error {
	var failure *certs.Failure
	if errors.As(err, &failure) {
		return failure
	}
	var late interface{ Timeout() bool }
	if errors.As(err, &late) && late.Timeout() {
		return errNoAnswer
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// drawVariant makes up the name of a variant.
func drawVariant() string {
	host, _ := os.Hostname()
	return wire.DrawVariant(host)
}
