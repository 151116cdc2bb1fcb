package handler

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Error codes of JSON-RPC 2.0, and the one for failed calls.
const (
	rpcInvalidRequest = -32600
	rpcMethodNotFound = -32601
	rpcInvalidParams  = -32602
	rpcCallFailed     = -32000
)

// maxRPCID bounds the ids that a program gives to its own requests, in bytes.
const maxRPCID = 128

// rpcError is the error member of a response.
type rpcError struct {
	Code    int       `json:"code"`
	Message string    `json:"message"`
	Data    *rpcFault `json:"data,omitempty"`
}

// rpcFault is the data member of an error: how the mesh sees it.
type rpcFault struct {
	Code      wire.Code `json:"code"`
	Temporary bool      `json:"temporary,omitempty"`
}

// line is what a program may write: a request or notification of its own (Method is
// set), or a response.
type line struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`

	reply uint64 // the number of the request that a response answers
}

func (l *line) isResponse() bool     { return l.Method == "" }
func (l *line) isNotification() bool { return len(l.ID) == 0 }

// decodeLine reads one line. What it returns shares no memory with b, is valid
// UTF-8 and is one of request, notification and response.
func decodeLine(b []byte) (*line, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not UTF-8")
	}
	if len(b) == 0 || b[0] != '{' {
		return nil, errors.New("not a JSON object")
	}
	// data may be anything in JSON-RPC; only the form above means something here.
	var in struct {
		line
		Error *struct {
			Code    json.Number     `json:"code"`
			Message string          `json:"message"`
			Data    json.RawMessage `json:"data"`
		} `json:"error"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, errors.New("not a JSON-RPC message")
	}
	l := in.line
	if l.Version != "2.0" {
		return nil, errors.New(`jsonrpc is not "2.0"`)
	}
	if bytes.Equal(l.ID, []byte("null")) {
		l.ID = nil
	}
	if !l.isResponse() {
		if len(l.ID) > maxRPCID {
			return nil, errors.New("id is too long")
		}
		if len(l.ID) > 0 && l.ID[0] != '"' && l.ID[0] != '-' && (l.ID[0] < '0' || l.ID[0] > '9') {
			return nil, errors.New("id is neither a string nor a number")
		}
		if in.Error != nil || l.Result != nil {
			return nil, errors.New("both a request and a response")
		}
		return &l, nil
	}
	id, err := strconv.ParseUint(string(l.ID), 10, 64)
	if err != nil {
		return nil, errors.New("response without the number of a request")
	}
	l.reply = id
	switch {
	case in.Error != nil && l.Result != nil && !bytes.Equal(l.Result, []byte("null")):
		return nil, errors.New("both a result and an error")
	case in.Error != nil:
		l.Result = nil
		l.Error = &rpcError{Message: in.Error.Message}
		if n, err := strconv.Atoi(in.Error.Code.String()); err == nil {
			l.Error.Code = n
		}
		var fault rpcFault
		if json.Unmarshal(in.Error.Data, &fault) == nil && fault.Code != "" {
			l.Error.Data = &fault
		}
	case l.Result == nil:
		return nil, errors.New("neither a result nor an error")
	}
	return &l, nil
}

// toWire says how a request failed that a program answered with an error.
func (e *rpcError) toWire() *wire.Error {
	out := failed("%s", e.Message)
	if out.Message == "" {
		out.Message = "the program answered with error " + strconv.Itoa(e.Code)
	}
	switch e.Code {
	case rpcMethodNotFound:
		out.Code = wire.CodeUnknownCommand
	case rpcInvalidParams:
		out.Code = wire.CodeBadRequest
	}
	if e.Data == nil {
		return out
	}
	// A program may choose among the codes that are about itself. The others are
	// the mesh's word on what happened on the way.
	switch e.Data.Code {
	case wire.CodeHandlerError, wire.CodeBadRequest, wire.CodeDenied, wire.CodeUnknownCommand, wire.CodeOverloaded:
		out.Code, out.Temporary = e.Data.Code, e.Data.Temporary
	}
	return out
}

// fromWire is the answer to a call of the program's own that failed.
func fromWire(err error) *rpcError {
	var e *wire.Error
	if !errors.As(err, &e) {
		e = failed("%v", err)
	}
	return &rpcError{
		Code:    rpcCallFailed,
		Message: limitText(e.Message),
		Data:    &rpcFault{Code: e.Code, Temporary: e.Temporary},
	}
}

// requestParams is what a program is told of a request.
type requestParams struct {
	Payload  json.RawMessage `json:"payload"`
	Command  string          `json:"command"`
	Worker   string          `json:"worker"`
	Variant  string          `json:"variant"`
	Caller   string          `json:"caller"`
	UID      string          `json:"uid,omitempty"`
	Deadline string          `json:"deadline,omitempty"` // RFC 3339 with nanoseconds

	Attempt     int  `json:"attempt,omitempty"` // of a queued command, from 1
	Redelivered bool `json:"redelivered,omitempty"`
}

// requestLine encodes r as request number id, ending in a newline.
func requestLine(id uint64, r *Request) ([]byte, error) {
	p := requestParams{
		Payload: r.Payload, Command: r.Command, Worker: r.Worker, Variant: r.Variant, Caller: r.Caller, UID: r.UID,
		Attempt: r.Attempt, Redelivered: r.Redelivered,
	}
	if !r.Deadline.IsZero() {
		p.Deadline = r.Deadline.UTC().Format(time.RFC3339Nano)
	}
	params, err := json.Marshal(p) // compacts the payload, so that no newline is left in it
	if err != nil {
		return nil, err
	}
	return encodeLine(&line{ID: strconv.AppendUint(nil, id, 10), Method: r.Command, Params: params})
}

// encodeLine ends in a newline and has no other. It fails only for invalid JSON.
func encodeLine(l *line) ([]byte, error) {
	l.Version = "2.0"
	b, err := json.Marshal(l)
	return append(b, '\n'), err
}
