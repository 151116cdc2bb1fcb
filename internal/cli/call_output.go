package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// callOutput prints what came of a call.
type callOutput struct {
	opts   *callOptions
	stream bool // replies are printed as they come
	err    error
}

func newCallOutput(opts *callOptions, delivery schema.Delivery) *callOutput {
	return &callOutput{
		opts: opts,
		stream: delivery == schema.Broadcast &&
			(opts.output == formatRaw || opts.output == "" && !opts.app.OutIsTerminal),
	}
}

// reply is told of each reply as it comes, one at a time.
func (o *callOutput) reply(r node.Reply) {
	if !o.stream || o.err != nil || r.Result == nil && r.Err == nil {
		return
	}
	if o.opts.output != formatRaw {
		o.err = writeJSON(o.opts.app.Out, r.Row(), false)
		return
	}
	if r.Err != nil {
		o.opts.app.notice("%s", printable(fmt.Sprintf("%s/%s: %v", r.Worker, r.Variant, r.Err)))
		return
	}
	o.err = o.raw(r.Result)
}

// finish prints what reply has not, and says whether the call succeeded.
func (o *callOutput) finish(res *node.Result) error {
	if o.err != nil {
		return fmt.Errorf("write output: %w", o.err)
	}
	if res.Delivery == schema.Balanced && res.Responds {
		return o.result(res)
	}
	verdict := o.verdict(res)
	var err error
	switch {
	case !res.Responds:
		err = o.sent(res, verdict)
	case o.stream:
	case o.opts.output == "" || o.opts.output == formatTable:
		err = o.table(res)
	default:
		err = o.replies(res, verdict)
	}
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if verdict != nil {
		return verdict
	}
	return nil
}

// result prints that of a balanced command.
func (o *callOutput) result(res *node.Result) error {
	if len(res.Replies) != 1 {
		return fmt.Errorf("%s: %d replies instead of one", res.Target, len(res.Replies))
	}
	r := res.Replies[0]
	if r.Err != nil {
		return r.Err
	}
	out := o.opts.app.Out
	switch o.opts.output {
	case formatYAML:
		return writeYAML(out, r.Result)
	case formatRaw:
		return o.raw(r.Result)
	case formatTable:
		return writeResultTable(o.opts, r)
	case formatJSON:
		return writeJSON(out, r.Result, true)
	}
	return writeJSON(out, r.Result, o.opts.app.OutIsTerminal)
}

// raw prints a text without quotes and anything else as compact JSON. On a terminal
// control characters are escaped; elsewhere the text is what was sent.
func (o *callOutput) raw(result json.RawMessage) error {
	text := string(compactJSON(result))
	var s string
	if json.Unmarshal(result, &s) == nil && bytes.HasPrefix(bytes.TrimSpace(result), []byte(`"`)) {
		text = s
		if o.opts.app.OutIsTerminal {
			text = printableLines(s)
		}
	}
	_, err := fmt.Fprintln(o.opts.app.Out, text)
	return err
}

// writeResultTable prints an object as a row per member, and anything else as it is.
func writeResultTable(opts *callOptions, r node.Reply) error {
	keys, values, ok := members(r.Result)
	if !ok {
		return writeTable(opts.app.Out, []string{"RESULT"}, [][]string{{cell(r.Result)}})
	}
	rows := make([][]string, len(keys))
	for i := range keys {
		rows[i] = []string{keys[i], cell(values[i])}
	}
	return writeTable(opts.app.Out, []string{"KEY", "VALUE"}, rows)
}

// members takes an object apart, in its order.
func members(data json.RawMessage) (keys []string, values []json.RawMessage, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, nil, false
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, nil, false
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, nil, false
		}
		keys, values = append(keys, fmt.Sprint(key)), append(values, v)
	}
	return keys, values, true
}

// cell is JSON as a table shows it.
func cell(v json.RawMessage) string {
	var s string
	if bytes.HasPrefix(bytes.TrimSpace(v), []byte(`"`)) && json.Unmarshal(v, &s) == nil {
		return s
	}
	return string(compactJSON(v))
}

func (o *callOutput) table(res *node.Result) error {
	rows := make([][]string, len(res.Replies))
	for i, r := range res.Replies {
		outcome := cell(r.Result)
		if r.Err != nil {
			outcome = "error: " + r.Err.Error()
		}
		rows[i] = []string{r.Variant, r.Elapsed.Round(100 * time.Microsecond).String(), outcome}
	}
	return writeTable(o.opts.app.Out, []string{"VARIANT", "TIME", "RESULT"}, rows)
}

func (o *callOutput) replies(res *node.Result, verdict *reported) error {
	doc := struct {
		node.Replies
		Error *failure `json:"error,omitempty"`
	}{Replies: res.AllReplies()}
	if verdict != nil {
		doc.Error = &failure{Code: verdict.code, Message: verdict.message}
	}
	return writeValue(o.opts.app.Out, doc, o.opts.output)
}

// sent tells to whom a request without a response went.
func (o *callOutput) sent(res *node.Result, verdict *reported) error {
	doc := struct {
		node.Sent
		Error *failure `json:"error,omitempty"`
	}{Sent: res.SentTo()}
	if o.opts.output == formatJSON || o.opts.output == formatYAML {
		if verdict != nil {
			doc.Error = &failure{Code: verdict.code, Message: verdict.message}
		}
		return writeValue(o.opts.app.Out, doc, o.opts.output)
	}
	var names []string
	for _, r := range doc.Sent.Sent {
		names = append(names, r.Worker+"/"+r.Variant)
	}
	if len(names) > 0 {
		o.opts.app.notice("sent to %s", printable(strings.Join(names, ", ")))
	}
	for _, r := range doc.Failed {
		o.opts.app.notice("%s", printable(fmt.Sprintf("not sent to %s/%s: %v", r.Worker, r.Variant, r.Error)))
	}
	return nil
}

// verdict is why the call failed, or nil. Where every variant failed for one reason
// it has that reason's code, and partial_broadcast otherwise.
func (o *callOutput) verdict(res *node.Result) *reported {
	expect := everybody()
	if o.opts.expect != nil {
		expect = *o.opts.expect
	}
	failed := 0
	codes := map[wire.Code]bool{}
	for _, r := range res.Replies {
		if r.Err != nil {
			failed++
			codes[r.Err.Code] = true
		}
	}
	total := len(res.Replies)
	if total-failed >= expect.of(total) {
		return nil
	}
	v := &reported{code: codePartial, message: fmt.Sprintf("%d of %d variants of %s answered, fewer than --expect %s",
		total-failed, total, res.Worker, expect)}
	if failed == total && len(codes) == 1 {
		v.code = first(codes)
		v.message = fmt.Sprintf("no variant of %s answered: all %d failed with %s", res.Worker, total, v.code)
		if total == 1 {
			v.message = res.Replies[0].Err.Message
		}
	}
	return v
}

func first(codes map[wire.Code]bool) wire.Code {
	for c := range codes {
		return c
	}
	return ""
}
