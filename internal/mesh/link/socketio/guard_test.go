package socketio

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// frame is one WebSocket message.
type frame struct {
	kind int
	data string
}

func text(s string) frame   { return frame{websocket.TextMessage, s} }
func binary(s string) frame { return frame{websocket.BinaryMessage, s} }

// killers are frames that a peer sends after its CONNECT and that end the connection.
// The first of them end the process of an unguarded server.
var killers = map[string][]frame{
	"event without data":             {text("42")},
	"event with id, without data":    {text("4212")},
	"binary event, no attachment":    {text("450-")},
	"binary event, attachment":       {text("451-"), binary("x")},
	"ack":                            {text("431")},
	"binary ack":                     {text("461-1"), binary("x")},
	"binary event with data":         {text(`451-["command",{"_placeholder":true,"num":0}]`), binary("x")},
	"binary event, bad placeholder":  {text(`451-["command",{"_placeholder":true,"num":-1}]`), binary("x")},
	"binary ack with data":           {text(`461-1[{"_placeholder":true,"num":0}]`), binary("x")},
	"huge number of attachments":     {text(`4599999999-["command","00"]`)},
	"overflowing attachments":        {text(`4599999999999999999999-["command","00"]`)},
	"negative attachments":           {text(`45-1-["command","00"]`)},
	"attachments without end":        {text("451" + strings.Repeat("1", 4000))},
	"event with an ack id":           {text(`427["command","00"]`)},
	"event with an overflowing id":   {text(`42184467440737095516160["command","00"]`)},
	"ack with data":                  {text(`430[]`)},
	"ack with null":                  {text(`431null`)},
	"event of another namespace":     {text(`42/admin,["command","00"]`)},
	"connect to another namespace":   {text(`40/admin,`)},
	"disconnect of another":          {text(`41/admin,`)},
	"namespace without end":          {text("40/" + strings.Repeat("a", 4000))},
	"second connect":                 {text("40")},
	"second connect with data":       {text(`40{"token":"x"}`)},
	"connect error":                  {text(`44{"message":"x"}`)},
	"connect error without data":     {text("44")},
	"unknown packet type":            {text("47")},
	"letter for a packet type":       {text("4x")},
	"empty packet":                   {text("4")},
	"event: bad JSON":                {text(`42["command","00"`)},
	"event: no JSON":                 {text(`42command`)},
	"event: object":                  {text(`42{"command":"00"}`)},
	"event: null":                    {text(`42null`)},
	"event: number":                  {text(`421`)},
	"event: empty array":             {text(`42[]`)},
	"event: no argument":             {text(`42["command"]`)},
	"event: two arguments":           {text(`42["command","00","00"]`)},
	"event: argument is a number":    {text(`42["command",1]`)},
	"event: argument is an object":   {text(`42["command",{"a":1}]`)},
	"event: argument is null":        {text(`42["command",null]`)},
	"event: name is a number":        {text(`42[1,"00"]`)},
	"event: name is null":            {text(`42[null,"00"]`)},
	"event: name is empty":           {text(`42["","00"]`)},
	"event: name too long":           {text(`42["` + strings.Repeat("a", 65) + `","00"]`)},
	"event: reserved name, no data":  {text(`42["disconnect"]`)},
	"event: escapes":                 {text(`42["comm\u0061nd","00"]`)},
	"event: control character":       {text("42[\"command\",\"\x00\"]")},
	"event: quote in the argument":   {text(`42["command","0"0"]`)},
	"event: trailing data":           {text(`42["command","00"]]`)},
	"event: deep nesting":            {text("42" + strings.Repeat("[", 50_000))},
	"event: deep nesting, closed":    {text(`42["command",` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `]`)},
	"event: placeholder bomb":        {text(`42["command","` + strings.Repeat(`","`, 10_000) + `"]`)},
	"event: not UTF-8":               {text("42[\"command\",\"\xff\xfe\"]")},
	"event: not ASCII":               {text(`42["command","ä"]`)},
	"binary message":                 {binary("x")},
	"empty binary message":           {binary("")},
	"base64 message":                 {text("bAAAA")},
	"bad base64 message":             {text("b!!!!")},
	"empty message":                  {text("")},
	"Engine.IO open":                 {text("0{}")},
	"Engine.IO close":                {text("1")},
	"Engine.IO ping":                 {text("2")},
	"Engine.IO ping probe":           {text("2probe")},
	"Engine.IO upgrade":              {text("5")},
	"Engine.IO noop":                 {text("6")},
	"Engine.IO unknown type":         {text("7")},
	"Engine.IO garbage":              {text("\x00\x01\x02")},
	"disconnect":                     {text("41")},
	"disconnect with data":           {text("41{}")},
	"pong, then event without data":  {text("3"), text("42")},
	"pongs, then event without data": {text("3"), text("3"), text("3probe"), text("42")},
	"events, then one without data":  {text(`42["foo","00"]`), text(`42["command","00"]`), text("42")},
}

// TestKillers sends what has to end a connection, to that connection's cost alone.
func TestKillers(t *testing.T) {
	ts := serve(t, nil)
	d, a := ts.pair()
	for name, frames := range killers {
		t.Run(name, func(t *testing.T) {
			r := ts.joined()
			victim := ts.accepted()
			for _, f := range frames {
				// Another frame may have ended the connection already.
				_ = r.WriteMessage(f.kind, []byte(f.data))
			}
			r.closed()
			waitDone(t, victim)
			alive(t, d, a)
		})
	}
}

// TestKillersBeforeConnect sends the same before the CONNECT, and in one breath with it.
func TestKillersBeforeConnect(t *testing.T) {
	ts := serve(t, nil)
	d, a := ts.pair()
	harmlessFirst := map[string]bool{"second connect": true, "second connect with data": true}
	for name, frames := range killers {
		t.Run(name, func(t *testing.T) {
			if !harmlessFirst[name] {
				r := ts.raw()
				for _, f := range frames {
					_ = r.WriteMessage(f.kind, []byte(f.data))
				}
				r.closed()
			}
			r := ts.raw()
			_ = r.WriteMessage(websocket.TextMessage, []byte("40"))
			for _, f := range frames {
				_ = r.WriteMessage(f.kind, []byte(f.data))
			}
			r.closed()
			alive(t, d, a)
		})
	}
	for {
		select {
		case <-ts.links: // of connections that ended
			continue
		default:
		}
		break
	}
	d2, a2 := ts.pair()
	alive(t, d2, a2)
}

// TestUnknownEvents are dropped without an attempt to open them.
func TestUnknownEvents(t *testing.T) {
	ts := serve(t, nil)
	r := ts.joined()
	l := ts.accepted()
	for _, name := range []string{"foo", "connection", "disconnect", "error2", "__proto__", "constructor"} {
		r.write(`42["` + name + `","00"]`)
	}
	sealed, err := sharedEnvelope().Seal([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.write(`42["declare","` + sealed + `"]`)
	if m := receive(t, l); m.Event != "declare" || string(m.Body) != "{}" {
		t.Errorf("received %s %s", m.Event, m.Body)
	}
	if st := ts.Stats(); st.Unopened != 0 || st.Dropped != 6 {
		t.Errorf("stats: %+v", st)
	}
}

func TestBadHandshakes(t *testing.T) {
	ts := serve(t, nil)
	d, a := ts.pair()
	upgrade := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	without := func(name string) http.Header {
		h := upgrade.Clone()
		h.Del(name)
		return h
	}
	with := func(name, value string) http.Header {
		h := upgrade.Clone()
		h.Set(name, value)
		return h
	}
	const good = path + "?EIO=4&transport=websocket"
	cases := []struct {
		name, method, url string
		header            http.Header
		status            int
	}{
		{"polling", "GET", path + "?EIO=4&transport=polling", nil, 400},
		{"polling with upgrade", "GET", path + "?EIO=4&transport=polling", upgrade, 400},
		{"polling post", "POST", path + "?EIO=4&transport=polling&sid=x", nil, 400},
		{"EIO=3", "GET", path + "?EIO=3&transport=websocket", upgrade, 400},
		{"no EIO", "GET", path + "?transport=websocket", upgrade, 400},
		{"EIO twice", "GET", path + "?EIO=3&EIO=4&transport=websocket", upgrade, 400},
		{"sid", "GET", good + "&sid=x", upgrade, 400},
		{"empty sid", "GET", good + "&sid=", upgrade, 400},
		{"webtransport", "GET", path + "?EIO=4&transport=webtransport", upgrade, 400},
		{"no query", "GET", path, upgrade, 400},
		{"no upgrade", "GET", good, nil, 400},
		{"other upgrade", "GET", good, with("Upgrade", "h2c"), 400},
		{"POST", "POST", good, upgrade, 400},
		{"old version", "GET", good, with("Sec-Websocket-Version", "8"), 400},
		{"no key", "GET", good, without("Sec-Websocket-Key"), 400},
		{"bad key", "GET", good, with("Sec-Websocket-Key", "x"), 400},
		{"other path", "GET", "/socket.io?EIO=4&transport=websocket", upgrade, 404},
		{"client script", "GET", "/socket.io/socket.io.js", nil, 404},
		{"climbing path", "GET", "/socket.io/../../etc/passwd", nil, 404},
		{"root", "GET", "/", nil, 404},
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			u, err := url.Parse("http://" + ts.addr + c.url)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(&http.Request{Method: c.method, URL: u, Header: c.header})
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != c.status {
				t.Errorf("status %d instead of %d", resp.StatusCode, c.status)
			}
			alive(t, d, a)
		})
	}
}

// TestRawBytes sends what is not even WebSocket, or not quite.
func TestRawBytes(t *testing.T) {
	ts := serve(t, func(c *Config) { c.DeclareTimeout = 300 * time.Millisecond })
	d, a := ts.trusted()
	request := "GET " + path + "?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	cases := map[string]string{
		"nothing":                 "",
		"zeros":                   strings.Repeat("\x00", 1<<20),
		"TLS":                     "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"half a request":          request[:40],
		"endless header":          request[:len(request)-2] + "X: " + strings.Repeat("a", 1<<20),
		"many headers":            request[:len(request)-2] + strings.Repeat("X: y\r\n", 1<<17),
		"frame without waiting":   request + "\x81\x82\x00\x00\x00\x0040",
		"unmasked frame":          request + "\x81\x0240",
		"reserved bits":           request + "\xf1\x82\x00\x00\x00\x0040",
		"compressed frame":        request + "\xc1\x82\x00\x00\x00\x0040",
		"unknown opcode":          request + "\x83\x82\x00\x00\x00\x0040",
		"continuation of nothing": request + "\x80\x82\x00\x00\x00\x0040",
		"fragmented control":      request + "\x09\x80\x00\x00\x00\x00",
		"giant length":            request + "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",
		"negative length":         request + "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",
		"bad close code":          request + "\x88\x82\x00\x00\x00\x00\x00\x01",
		"endless fragments":       request + strings.Repeat("\x01\x80\x00\x00\x00\x00", 1<<15),
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			for _, chunk := range []int{len(data), 1000} {
				nc, err := net.Dial("tcp", ts.addr)
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					for rest := data; rest != ""; {
						n, err := nc.Write([]byte(rest[:min(chunk, len(rest))]))
						if err != nil {
							return
						}
						rest = rest[n:]
					}
				}()
				_ = nc.SetReadDeadline(time.Now().Add(patience))
				buf := make([]byte, 4096)
				for {
					if _, err := nc.Read(buf); err != nil {
						if ne, ok := err.(net.Error); ok && ne.Timeout() {
							t.Error("the server keeps the connection open")
						}
						break
					}
				}
				_ = nc.Close()
			}
			alive(t, d, a)
		})
	}
}

// TestNoCompression keeps decompression bombs out.
func TestNoCompression(t *testing.T) {
	ts := serve(t, nil)
	dialer := websocket.Dialer{EnableCompression: true}
	ws, resp, err := dialer.Dial("ws://"+ts.addr+path+"?EIO=4&transport=websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if ext := resp.Header.Get("Sec-Websocket-Extensions"); ext != "" {
		t.Errorf("the server agreed to %q", ext)
	}
}

// TestFrameLimit: a declared peer may send as much as the limit, no more.
func TestFrameLimit(t *testing.T) {
	const limit = 4096
	ts := serve(t, func(c *Config) { c.MaxPayload = limit })
	d, a := ts.pair()
	for _, tc := range []struct {
		payload int
		ok      bool
	}{{limit, true}, {limit + frameSlack, false}, {1 << 20, false}} {
		t.Run(fmt.Sprint(tc.payload), func(t *testing.T) {
			r := ts.joined()
			l := ts.accepted()
			l.Trust()
			sealed, err := sharedEnvelope().Seal(make([]byte, tc.payload))
			if err != nil {
				t.Fatal(err)
			}
			_ = r.WriteMessage(websocket.TextMessage, []byte(`42["command","`+sealed+`"]`))
			if tc.ok {
				if m := receive(t, l); len(m.Body) != tc.payload {
					t.Errorf("received %d bytes", len(m.Body))
				}
				return
			}
			waitDone(t, l)
			alive(t, d, a)
		})
	}
}
