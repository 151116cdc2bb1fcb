package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const (
	httpDialTimeout   = 5 * time.Second
	httpIdleTimeout   = 90 * time.Second
	httpMaxHeader     = 64 << 10
	httpErrorBody     = 512 // bytes of an error's body that are quoted
	httpMaxRedirects  = 3
	httpMaxIdlePerURL = 64
)

// httpHandler posts payloads to a service and takes the bodies of its answers.
type httpHandler struct {
	url       string // without user and password
	user      *url.Userinfo
	maxOutput int
	client    *http.Client
}

// closer is a bounded httpHandler that can give up its idle connections.
type closer struct {
	*bounded
	http *httpHandler
}

// Close gives up idle connections; the handler stays usable.
func (c closer) Close() error {
	c.http.client.CloseIdleConnections()
	return nil
}

// newHTTP makes the handler of one URL. Proxies of the environment are not used:
// what answers a command is part of the mesh's inside, like a program of its own.
func newHTTP(raw string, concurrency, maxOutput int) (*httpHandler, error) {
	u, err := url.Parse(raw)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // without the URL, which may hold a password
			err = ue.Err
		}
		return nil, fmt.Errorf("parse http URL: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, errors.New("parse http URL: it must be http://HOST… or https://HOST…")
	}
	h := &httpHandler{user: u.User, maxOutput: maxOutput}
	u.User, u.Fragment = nil, ""
	h.url = u.String()
	h.client = &http.Client{
		CheckRedirect: sameHost,
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: httpDialTimeout}).DialContext,
			TLSHandshakeTimeout:    httpDialTimeout,
			MaxConnsPerHost:        concurrency,
			MaxIdleConnsPerHost:    min(concurrency, httpMaxIdlePerURL),
			IdleConnTimeout:        httpIdleTimeout,
			MaxResponseHeaderBytes: httpMaxHeader,
			DisableCompression:     true, // so that the cap is one on what is read
			ForceAttemptHTTP2:      true,
		},
	}
	return h, nil
}

var errRedirect = errors.New("redirected to another host, which is not followed")

// sameHost follows redirects within scheme, host and port. As in every browser only
// 307 and 308 keep method and body.
func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) > httpMaxRedirects {
		return fmt.Errorf("redirected more than %d times", httpMaxRedirects)
	}
	if origin(req.URL) != origin(via[0].URL) || req.URL.User != nil {
		return errRedirect
	}
	return nil
}

func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// Handle posts the payload. The service learns of the request by Mesh-* headers.
func (h *httpHandler) Handle(ctx context.Context, r *Request) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(r.Payload))
	if err != nil {
		return nil, failed("make http request: %v", withoutURL(err))
	}
	h.setHeaders(req, r)
	res, err := h.client.Do(req)
	if err != nil {
		return nil, h.failure(ctx, err)
	}
	defer func() {
		// What is left is read, within reason, so that the connection can be used again.
		_, _ = io.CopyN(io.Discard, res.Body, 4<<10)
		_ = res.Body.Close()
	}()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		body, _ := io.ReadAll(io.LimitReader(res.Body, httpErrorBody))
		if text := limitText(string(body)); text != "" {
			return nil, failed("http status %s: %s", res.Status, text)
		}
		return nil, failed("http status %s", res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, int64(h.maxOutput)+1))
	if err != nil {
		return nil, h.failure(ctx, err)
	}
	if len(body) > h.maxOutput {
		return nil, tooLarge(h.maxOutput)
	}
	return resultOf(body), nil
}

func (h *httpHandler) setHeaders(req *http.Request, r *Request) {
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, */*;q=0.5")
	req.Header.Set("User-Agent", "meshctl")
	req.Header.Set("Mesh-Worker", oneLine(r.Worker))
	req.Header.Set("Mesh-Variant", oneLine(r.Variant))
	req.Header.Set("Mesh-Command", oneLine(r.Command))
	req.Header.Set("Mesh-Caller", oneLine(r.Caller))
	req.Header.Set("Mesh-Uid", oneLine(r.UID))
	if !r.Deadline.IsZero() {
		req.Header.Set("Mesh-Deadline", r.Deadline.UTC().Format(time.RFC3339Nano))
		left := max(1, time.Until(r.Deadline).Milliseconds())
		req.Header.Set("Mesh-Timeout-Ms", strconv.FormatInt(left, 10))
	}
	if r.Attempt > 0 {
		req.Header.Set("Mesh-Attempt", strconv.Itoa(r.Attempt))
		req.Header.Set("Mesh-Redelivered", strconv.FormatBool(r.Redelivered))
	}
	if h.user != nil {
		password, _ := h.user.Password()
		req.SetBasicAuth(h.user.Username(), password)
	}
}

// failure says why there is no answer. Where no connection came about the
// request was not executed.
func (h *httpHandler) failure(ctx context.Context, err error) *wire.Error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	e := failed("http request: %v", withoutURL(err))
	var op *net.OpError
	e.Temporary = errors.As(err, &op) && op.Op == "dial"
	return e
}

func withoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
