package handler

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Handlers of queued commands learn which try it is; others hear nothing of tries.
func TestAttempt(t *testing.T) {
	queued := &Request{Command: "note", Payload: []byte(`{}`), Attempt: 2, Redelivered: true}
	other := &Request{Command: "note", Payload: []byte(`{}`)}

	if env := requestEnv(queued); !slices.Contains(env, "MESH_ATTEMPT=2") || !slices.Contains(env, "MESH_REDELIVERED=true") {
		t.Errorf("environment: %v", env)
	}
	if env := strings.Join(requestEnv(other), " "); strings.Contains(env, "ATTEMPT") || strings.Contains(env, "REDELIVERED") {
		t.Errorf("environment: %v", env)
	}
	line, err := requestLine(1, queued)
	if err != nil || !strings.Contains(string(line), `"attempt":2,"redelivered":true`) {
		t.Errorf("line: %s, %v", line, err)
	}
	if line, err := requestLine(1, other); err != nil || strings.Contains(string(line), "attempt") {
		t.Errorf("line: %s, %v", line, err)
	}
	req := &http.Request{Header: http.Header{}}
	(&httpHandler{}).setHeaders(req, queued)
	if req.Header.Get("Mesh-Attempt") != "2" || req.Header.Get("Mesh-Redelivered") != "true" {
		t.Errorf("headers: %v", req.Header)
	}
}
