package node

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// ReplyRow is a Reply as JSON.
type ReplyRow struct {
	Worker    string          `json:"worker"`
	Variant   string          `json:"variant"`
	Kind      string          `json:"kind,omitempty"`
	ElapsedMS float64         `json:"elapsed_ms"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *wire.Error     `json:"error,omitempty"`
}

// Row is the reply as JSON has it.
func (r Reply) Row() ReplyRow {
	return ReplyRow{r.Worker, r.Variant, r.Kind, float64(r.Elapsed/time.Microsecond) / 1000, r.Result, r.Err}
}

// SentRow is a variant that took a request without a response, as JSON.
type SentRow struct {
	Worker  string `json:"worker"`
	Variant string `json:"variant"`
	Kind    string `json:"kind,omitempty"`
}

// Replies is what came of a broadcast, as JSON.
type Replies struct {
	Replies []ReplyRow `json:"replies"`
}

// Sent is what came of a request without a response, as JSON.
type Sent struct {
	Sent   []SentRow  `json:"sent"`
	Failed []ReplyRow `json:"failed,omitempty"`
}

// AllReplies gives the replies as rows.
func (r *Result) AllReplies() Replies {
	rows := Replies{Replies: make([]ReplyRow, len(r.Replies))}
	for i, reply := range r.Replies {
		rows.Replies[i] = reply.Row()
	}
	return rows
}

// SentTo tells who took the request.
func (r *Result) SentTo() Sent {
	rows := Sent{Sent: []SentRow{}}
	for _, reply := range r.Replies {
		if reply.Err != nil {
			rows.Failed = append(rows.Failed, reply.Row())
		} else {
			rows.Sent = append(rows.Sent, SentRow{reply.Worker, reply.Variant, reply.Kind})
		}
	}
	return rows
}

// JSON is what `meshctl call -o json` prints: of a balanced command its result, of others
// Replies or Sent. Errors are *wire.Error.
func (r *Result) JSON() (json.RawMessage, error) {
	switch {
	case !r.Responds:
		return wire.Encode(r.SentTo())
	case r.Delivery == schema.Broadcast:
		return wire.Encode(r.AllReplies())
	case len(r.Replies) != 1:
		return nil, &wire.Error{Code: wire.CodeHandlerError, Message: fmt.Sprintf("%s: %d replies instead of one", r.Target, len(r.Replies))}
	}
	return r.Replies[0].Result, nil
}
