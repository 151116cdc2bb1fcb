package query

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

func live() *inspect.Live {
	return &inspect.Live{
		Request: inspect.Request{UID: "u-17", Caller: "shop/s1", Target: "billing/b2", Command: "billing.quote", Kind: inspect.KindBalanced, Phase: inspect.PhaseRunning, Bytes: 2048},
		Age:     250 * time.Millisecond,
	}
}

func TestFilter(t *testing.T) {
	for text, want := range map[string]bool{
		``:                               true,
		`  `:                             true,
		`quote`:                          true,
		`QUOTE`:                          true,
		`nothing`:                        false,
		`quote shop`:                     true,
		`quote and nothing`:              false,
		`nothing or shop`:                true,
		`!quote`:                         false,
		`not nothing`:                    true,
		`!!quote`:                        true,
		`nothing or quote and shop`:      true,
		`(nothing or quote) nothing`:     false,
		`/^u-[0-9]+$/`:                   true,
		`/^U-1\d/`:                       true,
		`!/^u-/`:                         false,
		`/b2$/ and /shop\/s1/`:           true,
		`"or"`:                           false,
		`worker=billing and age>200ms`:   true,
		`worker=billing and age>=251ms`:  false,
		`age>200`:                        true,
		`age < 0.3s`:                     true,
		`worker!=billing`:                false,
		`worker=Billing`:                 true,
		`worker="billing"`:               true,
		`uid~^u`:                         true,
		`uid~/^v/`:                       false,
		`size>=2KiB`:                     true,
		`size=2048`:                      true,
		`size>2k`:                        false,
		`code!=timeout`:                  true,
		`code=timeout`:                   false,
		`timeout>1s`:                     false,
		`timeout!=1s`:                    true,
		`attempt=0`:                      false,
		`not (worker=shop or age<100ms)`: true,
		`billing.quote`:                  true,
		`billing/b2`:                     true,
		`WORKER==billing`:                true,
	} {
		f, err := Compile(text, LiveFields())
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := f.Match((*LiveRow)(live())); got != want {
			t.Errorf("%s: %t, want %t", text, got, want)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	for text, want := range map[string]string{
		`wroker=billing`:           `column 1: there is no field "wroker"`,
		`quote and phsae=done`:     `column 11: there is no field "phsae"`,
		`age>`:                     `column 5: a value is missing after age>`,
		`age>fast`:                 `column 5: "fast" is not a duration such as 200ms`,
		`age>NaN`:                  `column 5: "NaN" is not a duration such as 200ms`,
		`size>0x10`:                `column 6: "0x10" is not a size such as 64KiB`,
		`worker>billing`:           `column 7: worker is a text, which only =, != and ~ compare`,
		`age~5`:                    `column 4: age is a duration such as 200ms, which ~ does not compare`,
		`uid=/x/`:                  `column 4: "=" does not compare with a regular expression`,
		`/(/`:                      `column 1: the regular expression is wrong: missing closing ): `,
		`/abc`:                     `column 1: the regular expression has no closing /`,
		`"abc`:                     `column 1: the text has no closing "`,
		`(quote`:                   `column 1: the parenthesis is not closed`,
		`quote)`:                   `column 6: ")" is not expected here`,
		`or quote`:                 `column 1: something is missing before "or"`,
		`quote or`:                 `column 9: the end where a word or a test`,
		`é =billing`:               `column 1: there is no field "é"`,
		`>5`:                       `column 1: ">" where a word`,
		`!`:                        `column 2: the end where`,
		strings.Repeat(`(`, 100):   `nested deeper than 64`,
		strings.Repeat(`!`, 1000):  `nested deeper than 64`,
		strings.Repeat(`a `, 2500): `longer than 4096 bytes`,
		"\xff":                     `not valid UTF-8`,
	} {
		_, err := Compile(text, LiveFields())
		var at *Error
		if !errors.As(err, &at) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %s", text, err, want)
		}
	}
	_, err := Compile("wroker=billing", LiveFields())
	var at *Error
	if !errors.As(err, &at) || !strings.HasPrefix(at.Hint, "did you mean worker? fields are uid, group, ") {
		t.Errorf("%+v", at)
	}
}

func TestFieldsHaveValues(t *testing.T) {
	event := inspect.Event{Type: "log", Level: "warn", Node: "a/1", Peer: "b/1", Command: "b.c", UID: "u", Code: "timeout", Message: "m"}
	node := inspect.Node{NodeInfo: wire.NodeInfo{Worker: "a", Variant: "1", IP: "::1", Kind: "meshctl", Version: "1"}, Name: "a/1", Reports: true, P50: 1, P99: 1}
	command := inspect.Command{Name: "a.b", P50: 1, P90: 1, P99: 1, P999: 1}
	row := live()
	row.Group, row.Code, row.Timeout, row.Phase, row.Attempt = "g", "timeout", 1, inspect.PhaseDone, 1
	for _, tc := range []struct {
		row    Row
		fields []Field
	}{{(*EventRow)(&event), EventFields()}, {(*NodeRow)(&node), NodeFields()}, {(*CommandRow)(&command), CommandFields()}, {(*LiveRow)(row), LiveFields()}} {
		for _, f := range tc.fields {
			if v, ok := tc.row.Field(f.Name); !ok || f.Kind == KindText && v.text == "" {
				t.Errorf("%T has no %s", tc.row, f.Name)
			}
		}
		if _, ok := tc.row.Field("nothing"); ok {
			t.Errorf("%T has nothing", tc.row)
		}
		if _, ok := tc.row.Text(0); !ok {
			t.Errorf("%T has no text", tc.row)
		}
	}
}

func picture(t *testing.T) *inspect.Picture {
	s, err := schema.Parse("s.yaml", []byte("worker:\n  _allow: anyNode\n  _connect: []\n  _commands: {_balanced: {status: null, idle: null}, _broadcast: {}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := &inspect.Picture{Schema: s}
	for i := range 3 {
		p.Nodes = append(p.Nodes, inspect.Node{NodeInfo: wire.NodeInfo{Worker: "worker"}, Health: inspect.Health(i)})
	}
	p.Commands = []inspect.Command{{Name: "worker.status", Calls: 100, Failed: 5, P99: 150 * time.Millisecond, Rate: 12.5}}
	p.Queues = []inspect.Queue{{QueueCount: inspect.QueueCount{Command: "worker.status", Depth: 4, Dead: 1}}}
	p.Totals = inspect.Totals{Nodes: 3, Calls: 200, Errors: 7, MissingLinks: 1}
	return p
}

func TestAssert(t *testing.T) {
	p := picture(t)
	base := NewBaseline(&inspect.Picture{Totals: inspect.Totals{Errors: 7, Calls: 150}, Commands: []inspect.Command{{Name: "worker.status", Failed: 2}}})
	for text, want := range map[string]bool{
		`variants(worker)>=2`:                        true, // one of them drains
		`variants(worker)>=3`:                        false,
		`p99(worker.status)<200ms`:                   true,
		`p99(worker.status) < 0.1s`:                  false,
		`p99(worker.idle)<1s`:                        false, // there is none
		`errors()=0`:                                 true,
		`errors(worker.status)=3`:                    true,
		`calls()=50 and nodes()=3`:                   true,
		`rate(worker.status)>10 or nodes()=0`:        true,
		`not missing_links()=0`:                      true,
		`queue_depth()=4 and dead(worker.status)<=1`: true,
		`(links()>0 or inflight()=0) and P50()>=0`:   false,
	} {
		a, err := Assert(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		holds, seen, err := a.Check(p, base)
		if err != nil || holds != want {
			t.Errorf("%s: %t, want %t (%v, %v)", text, holds, want, seen, err)
		}
	}
	a, err := Assert("p99(worker.status)<200ms and errors()=0")
	if err != nil {
		t.Fatal(err)
	}
	_, seen, _ := a.Check(p, base)
	if got := fmt.Sprint(seen); got != "[p99(worker.status) is 150ms errors() is 0]" {
		t.Error(got)
	}
}

func TestAssertErrors(t *testing.T) {
	for text, want := range map[string]string{
		``:                          `nothing is asserted`,
		`variant(worker)>3`:         `there is no function "variant"`,
		`variants()>3`:              `variants needs a worker`,
		`variants(worker.status)>3`: `variants does not take "worker.status"`,
		`errors(worker)=0`:          `errors does not take "worker"`,
		`nodes(worker)=0`:           `nodes takes no argument`,
		`nodes>3`:                   `nodes has no parentheses`,
		`nodes()`:                   `the end where a comparison should be`,
		`nodes()~3`:                 `"~" where a comparison should be`,
		`p99()<fast`:                `"fast" is not a duration`,
		`nodes()>2ms`:               `"2ms" is not a number`,
		`nodes()>3 and`:             `the end where a function should be`,
		`nodes(>3`:                  `">" where ) should be`,
		`errors(__proto__.x)=0`:     `__proto__`,
	} {
		if _, err := Assert(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	p := picture(t)
	for text, want := range map[string]string{
		`variants(wroker)=0`:       `the schema has no worker "wroker"; did you mean worker?`,
		`errors(worker.statsu)=0`:  `the schema has no command "worker.statsu"; did you mean worker.status?`,
		`errors(worker.zzzzzzz)=0`: `the schema has no command "worker.zzzzzzz"`,
	} {
		a, err := Assert(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.Check(p, Baseline{}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, text := range []string{"worker=billing and age>200ms", `!/x\/y/ or (a "b c")`, "size>=64KiB uid~^u", "not (a or b)", "p99(a.b)<1s"} {
		f.Add(text)
	}
	row := (*LiveRow)(live())
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := Compile(text, LiveFields())
		if err == nil {
			matches := filter.Match(row)
			if inverse, err := Compile("!("+text+")", LiveFields()); err == nil && inverse.Match(row) == matches {
				t.Errorf("%q and its inverse agree", text)
			}
		} else if at := (*Error)(nil); !errors.As(err, &at) || at.Column < 1 || at.Column > len(text)+1 {
			t.Errorf("%q: %v", text, err)
		}
		if a, err := Assert(text); err == nil {
			if _, _, err := a.Check(&inspect.Picture{}, Baseline{}); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}

func BenchmarkFilter(b *testing.B) {
	rows := make([]inspect.Live, 10_000)
	for i := range rows {
		rows[i] = *live()
		rows[i].Age = time.Duration(i) * time.Millisecond
	}
	f, err := Compile("worker=billing and age>200ms and !mailer", LiveFields())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for i := range rows {
			if f.Match((*LiveRow)(&rows[i])) {
				n++
			}
		}
		if n != 9799 {
			b.Fatal(n)
		}
	}
}
