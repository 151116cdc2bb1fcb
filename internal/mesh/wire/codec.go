package wire

import (
	"encoding/json"
	"time"
)

// Members of commands and responses beside the one that is named for the command.
const (
	memberUID     = "uid"
	memberMeshctl = "meshctl"
)

// Command is a request to run the command Name.
type Command struct {
	// UID is what the response will carry; empty when none is waited for.
	UID  string
	Name string
	// Number is what the response will carry on a native link, where it stands for the
	// UID; 0 when none is waited for. It does not travel over Socket.IO.
	Number uint64
	// Payload is valid JSON. After DecodeCommand it is never nil and shares memory
	// with the body that was decoded.
	Payload json.RawMessage
	// Meta is nil from JavaScript peers.
	Meta *CommandMeta
}

// CommandMeta is what one meshctl peer adds to a command for another.
type CommandMeta struct {
	// TimeoutMS is how long the caller waits from now, in milliseconds; 0: unsaid.
	// Read it through Timeout, which a hostile value cannot overflow.
	TimeoutMS int64 `json:"timeout_ms,omitempty"`
	// Ack asks for a response as soon as the command is queued.
	Ack bool `json:"ack,omitempty"`
	// Job says that a queued command is done even when its caller waits no more: it is tried
	// again when it fails, and kept as a dead letter in the end. Ack implies it.
	Job bool `json:"job,omitempty"`
	// Key tells the same job from another; default: the uid. A job whose key the queue has
	// accepted before is dropped.
	Key string `json:"key,omitempty"`
}

// Timeout is TimeoutMS as a duration of at most MaxTimeout, 0 when it was not said.
// It may be called on nil.
func (m *CommandMeta) Timeout() time.Duration {
	if m == nil || m.TimeoutMS <= 0 {
		return 0
	}
	return time.Duration(min(m.TimeoutMS, MaxTimeout.Milliseconds())) * time.Millisecond
}

// Response settles the request UID, or Number where that is set.
type Response struct {
	UID    string
	Number uint64 // of the Command; on native links alone, and UID is then empty
	// Name is the command that was run. It may be empty.
	Name string
	// Result is valid JSON, nil where Err is set. After DecodeResponse it shares
	// memory with the body that was decoded.
	Result json.RawMessage
	// Err is why the request failed. JavaScript peers never send it.
	Err *Error
}

// EncodeCommand writes {"uid":…,NAME:PAYLOAD,"meshctl":…}. A nil payload becomes
// null. It fails with CodeBadRequest for a bad uid or name, or a payload that
// is not JSON or nests too deeply. The caller owns the result; c is not kept.
func EncodeCommand(c Command) ([]byte, error) {
	if c.UID != "" {
		if err := ValidUID(c.UID); err != nil {
			return nil, badRequest("%v", err)
		}
	}
	if err := validMember(c.Name); err != nil {
		return nil, badRequest("%v", err)
	}
	var meta any
	if c.Meta != nil {
		meta = c.Meta
	}
	return encodeCall(c.UID, c.Name, c.Payload, meta)
}

// DecodeCommand is the opposite of EncodeCommand. NAME is the one member that
// remains beside uid and meshctl; where several remain, the one that known accepts
// (known may be nil). One that no schema knows is returned as it is: the caller
// answers unknown_command. Errors are *Error with CodeBadRequest; the UID is then
// set if it was legible, so that the failure can be answered.
func DecodeCommand(body []byte, known func(name string) bool) (Command, error) {
	o, err := decodeObject(body)
	if err != nil {
		return Command{}, err
	}
	var c Command
	if c.UID, err = o.uid(); err != nil {
		return Command{}, err
	}
	named, count, accepted := member{}, 0, 0
	for _, m := range o {
		if m.name == memberUID || m.name == memberMeshctl {
			continue
		}
		count++
		if known != nil && known(m.name) {
			accepted++
			named = m
		} else if accepted == 0 {
			named = m
		}
	}
	switch {
	case count == 0:
		return Command{UID: c.UID}, badRequest("no member names a command")
	case accepted > 1:
		return Command{UID: c.UID}, badRequest("%d members name a command", accepted)
	case accepted == 0 && count > 1:
		return Command{UID: c.UID}, badRequest("none of %d members names a known command", count)
	}
	if err := validMember(named.name); err != nil {
		return Command{UID: c.UID}, badRequest("%v", err)
	}
	c.Name, c.Payload = named.name, named.value
	// A member of this name that a JavaScript peer means otherwise is no fault.
	if raw := o.get(memberMeshctl); len(raw) > 0 && raw[0] == '{' {
		var meta CommandMeta
		if json.Unmarshal(raw, &meta) == nil {
			c.Meta = &meta
		}
	}
	return c, nil
}

// failure is how a Response's Err travels.
type failure struct {
	Error *Error `json:"error"`
}

// EncodeResponse writes {"uid":…,NAME:RESULT}, and for a failure
// {"uid":…,NAME:null,"meshctl":{"error":…}}. A nil result becomes null. Err.Message
// is cut to MaxErrorLen. It fails with CodeBadRequest as EncodeCommand does,
// but the name may be empty. The caller owns the result; r is not kept.
func EncodeResponse(r Response) ([]byte, error) {
	if err := ValidUID(r.UID); err != nil {
		return nil, badRequest("%v", err)
	}
	if r.Name != "" {
		if err := validMember(r.Name); err != nil {
			return nil, badRequest("%v", err)
		}
	}
	if r.Err == nil {
		return encodeCall(r.UID, r.Name, r.Result, nil)
	}
	e := *r.Err
	e.Message = clip(e.Message, MaxErrorLen)
	return encodeCall(r.UID, r.Name, nil, failure{&e})
}

// DecodeResponse is the opposite of EncodeResponse. The result of a JavaScript handler
// that returned nothing is null and may come without a name. Errors are *Error
// with CodeBadRequest, and say nothing of the failure that a Response may carry.
func DecodeResponse(body []byte) (Response, error) {
	o, err := decodeObject(body)
	if err != nil {
		return Response{}, err
	}
	var r Response
	if r.UID, err = o.uid(); err != nil {
		return Response{}, err
	}
	if r.UID == "" {
		return Response{}, badRequest("response without uid")
	}
	r.Result = json.RawMessage("null")
	for _, m := range o {
		if m.name == memberUID || m.name == memberMeshctl {
			continue
		}
		if err := validMember(m.name); err != nil {
			return Response{}, badRequest("%v", err)
		}
		r.Name, r.Result = m.name, m.value
		break // whatever follows is an addition that this build does not know
	}
	if raw := o.get(memberMeshctl); len(raw) > 0 && raw[0] == '{' {
		var f failure
		if json.Unmarshal(raw, &f) == nil && f.Error != nil {
			f.Error.Code = validCode(f.Error.Code, CodeHandlerError)
			f.Error.Message = clip(f.Error.Message, MaxErrorLen)
			r.Result, r.Err = nil, f.Error
		}
	}
	return r, nil
}

// encodeCall writes uid (unless empty), name and value (unless the name is empty) and
// meta (unless nil), in this order, which JavaScript peers keep.
func encodeCall(uid, name string, value json.RawMessage, meta any) ([]byte, error) {
	if len(value) == 0 {
		value = json.RawMessage("null")
	}
	// The value is one level down in the message.
	if err := checkJSON(value, MaxDepth-1); err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(uid)+len(name)+len(value)+64)
	b = append(b, '{')
	if uid != "" {
		b = append(b, `"uid":"`...)
		b = append(b, uid...) // ValidUID leaves nothing to escape
		b = append(b, `",`...)
	}
	if name != "" {
		var err error
		if b, err = appendString(b, name); err != nil {
			return nil, err
		}
		b = append(b, ':')
		b = append(b, value...)
		b = append(b, ',')
	}
	if meta != nil {
		raw, err := Encode(meta)
		if err != nil {
			return nil, err
		}
		b = append(b, `"meshctl":`...)
		b = append(b, raw...)
		b = append(b, ',')
	}
	b[len(b)-1] = '}' // a uid or a name is always there, so this is a comma
	return b, nil
}

// uid gives the valid member uid, or "" when there is none.
func (o object) uid() (string, error) {
	raw := o.get(memberUID)
	if raw == nil || string(raw) == `""` {
		return "", nil
	}
	if raw[0] != '"' {
		return "", badRequest("uid is not a string")
	}
	uid, err := unquote(raw)
	if err != nil {
		return "", err
	}
	if err := ValidUID(uid); err != nil {
		return "", badRequest("%v", err)
	}
	return uid, nil
}

// validCode gives c, or otherwise when c does not look like a code. Codes that a newer
// peer has added pass.
func validCode(c, otherwise Code) Code {
	if c == "" || len(c) > MaxNameLen {
		return otherwise
	}
	for i := range len(c) {
		if b := c[i]; b != '_' && !('a' <= b && b <= 'z') && !('0' <= b && b <= '9') {
			return otherwise
		}
	}
	return c
}
