package handler

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// post asks a handler of url once.
func post(t *testing.T, url string, m schema.Method, r *Request) (string, error) {
	t.Helper()
	m.HTTP = url
	h, err := New(&schema.Command{Name: "test", Method: &m}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.(io.Closer).Close() }()
	ctx, cancel := context.WithDeadline(t.Context(), r.Deadline)
	defer cancel()
	out, err := h.Handle(ctx, r)
	return string(out), err
}

func httpRequest(payload string) *Request {
	return &Request{
		UID: "uid-1", Worker: "shop", Variant: "s1", Command: "test", Caller: "till/t1\r\nX: 1",
		Payload: json.RawMessage(payload), Deadline: time.Now().Add(20 * time.Second),
	}
}

func serve(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

func TestHTTPRequest(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for name, want := range map[string]string{
			"Content-Type": "application/json", "Mesh-Worker": "shop", "Mesh-Variant": "s1", "Mesh-Command": "test",
			"Mesh-Caller": "till/t1X: 1", "Mesh-Uid": "uid-1",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if d, err := time.Parse(time.RFC3339Nano, r.Header.Get("Mesh-Deadline")); err != nil || time.Until(d) < 0 {
			t.Errorf("Mesh-Deadline: %v, %v", d, err)
		}
		if ms, err := strconv.Atoi(r.Header.Get("Mesh-Timeout-Ms")); err != nil || ms < 1 || ms > 20000 {
			t.Errorf("Mesh-Timeout-Ms: %d, %v", ms, err)
		}
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "hush" {
			t.Errorf("got user %q", user)
		}
		if r.Method != http.MethodPost || string(body) != `{"n":1}` {
			t.Errorf("%s %s", r.Method, body)
		}
		_, _ = io.WriteString(w, "{\"ok\":true}\n")
	})
	got, err := post(t, strings.Replace(url, "//", "//ann:hush@", 1), schema.Method{}, httpRequest(`{"n":1}`))
	if err != nil || got != `{"ok":true}` {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestHTTPAnswers(t *testing.T) {
	for _, tt := range []struct {
		status     int
		body, want string
		code       wire.Code
	}{
		{status: 200, body: `[1]`, want: `[1]`},
		{status: 201, body: "plain\n", want: `"plain"`},
		{status: 200, body: "", want: `null`},
		{status: 204, want: `null`},
		{status: 404, body: "no such thing\n", code: wire.CodeHandlerError, want: "http status 404 Not Found: no such thing"},
		{status: 500, body: strings.Repeat("x", 1000), code: wire.CodeHandlerError, want: "http status 500 Internal Server Error: " + strings.Repeat("x", 512)},
		{status: 503, code: wire.CodeHandlerError, want: "http status 503 Service Unavailable"},
		{status: 304, code: wire.CodeHandlerError, want: "http status 304 Not Modified"},
		{status: 200, body: `"` + strings.Repeat("x", 99) + `"`, code: wire.CodeHandlerError, want: "output exceeds 100 bytes"},
		{status: 200, body: `"` + strings.Repeat("x", 98) + `"`, want: `"` + strings.Repeat("x", 98) + `"`},
	} {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		got, err := post(t, url, schema.Method{MaxOutput: 100}, httpRequest(`{}`))
		var e *wire.Error
		if errors.As(err, &e) {
			got = e.Message
		}
		if wire.CodeOf(err) != tt.code || got != tt.want {
			t.Errorf("%d %.20s: got %s, %v", tt.status, tt.body, got, err)
		}
	}
}

func TestHTTPRedirects(t *testing.T) {
	var elsewhere atomic.Int64
	other := serve(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/hops/")); err == nil && n > 0 {
			http.Redirect(w, r, "/hops/"+strconv.Itoa(n-1), http.StatusTemporaryRedirect)
			return
		}
		switch r.URL.Path {
		case "/other":
			http.Redirect(w, r, other+"/stolen", http.StatusTemporaryRedirect)
		case "/scheme":
			http.Redirect(w, r, "https://"+r.Host+"/", http.StatusTemporaryRedirect)
		case "/user":
			http.Redirect(w, r, "http://bob:hush@"+r.Host+"/", http.StatusTemporaryRedirect)
		case "/found":
			http.Redirect(w, r, "/end", http.StatusFound)
		default:
			_ = json.NewEncoder(w).Encode(map[string]string{"method": r.Method, "body": string(body)})
		}
	})
	for path, want := range map[string]string{
		"/hops/3": `{"method":"POST","body":"{}"}`,
		"/found":  `{"method":"GET","body":""}`,
	} {
		got, err := post(t, url+path, schema.Method{}, httpRequest(`{}`))
		var a, b map[string]string
		if err != nil || json.Unmarshal([]byte(got), &a) != nil || json.Unmarshal([]byte(want), &b) != nil ||
			a["method"] != b["method"] || a["body"] != b["body"] {
			t.Errorf("%s: got %s, %v; want %s", path, got, err, want)
		}
	}
	for path, want := range map[string]string{
		"/hops/4": "more than 3 times", "/other": "another host", "/scheme": "another host", "/user": "another host",
	} {
		_, err := post(t, url+path, schema.Method{}, httpRequest(`{}`))
		if wire.CodeOf(err) != wire.CodeHandlerError || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("the other host got %d requests", n)
	}
}

// TestHTTPSlow has a server that does not answer, and one that stops in the middle.
func TestHTTPSlow(t *testing.T) {
	for _, part := range []string{"", `{"half":`} {
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if part != "" {
				_, _ = io.WriteString(w, part)
				_ = http.NewResponseController(w).Flush()
			}
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done() // the caller hung up
		})
		r := httpRequest(`{}`)
		r.Deadline = time.Now().Add(100 * time.Millisecond)
		if _, err := post(t, url, schema.Method{}, r); wire.CodeOf(err) != wire.CodeTimeout {
			t.Errorf("%q: got %v, want timeout", part, err)
		}
	}
}

func TestHTTPNobodyListens(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	_, err := post(t, strings.Replace(s.URL, "//", "//ann:hush@", 1), schema.Method{}, httpRequest(`{}`))
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != wire.CodeHandlerError || !e.Temporary {
		t.Errorf("got %v", err)
	}
	if text := err.Error(); strings.Contains(text, "hush") || strings.Contains(text, "ann") {
		t.Errorf("user or password in %q", text)
	}
}

func TestHTTPIgnoresProxies(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	h, err := newHTTP("http://service.example/", 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if h.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("requests go through the environment's proxy")
	}
}

func TestHTTPReusesConnections(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = io.WriteString(w, strings.Repeat(" ", 2000))
	})
	for _, path := range []string{"/", "/bad"} {
		h, err := New(&schema.Command{Name: "test", Method: &schema.Method{HTTP: url + path}}, Config{})
		if err != nil {
			t.Fatal(err)
		}
		fresh := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(i httptrace.GotConnInfo) {
				if !i.Reused {
					fresh++
				}
			},
		})
		for range 5 {
			_, _ = h.Handle(ctx, httpRequest(`{}`))
		}
		if fresh != 1 {
			t.Errorf("%s: %d connections for 5 requests, want 1", path, fresh)
		}
		_ = h.(io.Closer).Close()
	}
}

func TestSetClosesIdleConnections(t *testing.T) {
	closed := make(chan struct{}, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `1`) }))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- struct{}{}
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	m := &schema.Method{HTTP: server.URL}
	set, err := NewSet(&schema.Worker{Name: "shop", Commands: map[string]*schema.Command{"test": {Name: "test", Method: m}}}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- set.Run(ctx) }()
	h, _ := set.Handler("test")
	if got, err := h.Handle(t.Context(), httpRequest(`{}`)); err != nil || string(got) != `1` {
		t.Errorf("got %s, %v", got, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("the connection stays open")
	}
}
