package wire

import "encoding/json"

// Check holds a command that did not come as JSON to the rules of DecodeCommand, and
// fills in a missing payload. It fails with CodeBadRequest.
func (c *Command) Check() error {
	if c.UID != "" {
		if err := ValidUID(c.UID); err != nil {
			return badRequest("%v", err)
		}
	}
	if err := validMember(c.Name); err != nil {
		return badRequest("%v", err)
	}
	return checkValue(&c.Payload)
}

// Check holds a response that did not come as JSON to the rules of DecodeResponse, and
// fills in a missing result. It fails with CodeBadRequest.
func (r *Response) Check() error {
	if r.Number == 0 {
		if err := ValidUID(r.UID); err != nil {
			return badRequest("%v", err)
		}
	}
	if r.Err != nil {
		e := *r.Err // others may hold it too
		e.Code, e.Message = validCode(e.Code, CodeHandlerError), clip(e.Message, MaxErrorLen)
		r.Result, r.Err = nil, &e
		return nil
	}
	return checkValue(&r.Result)
}

func checkValue(v *json.RawMessage) error {
	if len(*v) == 0 {
		*v = json.RawMessage("null")
		return nil
	}
	text, err := cleanTo(*v, MaxDepth-1) // it is one level down in a message of JSON
	if err != nil {
		return err
	}
	*v = text
	return nil
}
