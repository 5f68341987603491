package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// modelCommand and the functions below are the rules of docs/PROTOCOL.md once
// more, over encoding/json, with no thought of speed.
type modelCommand struct {
	typ, id               string
	topics                []string
	cursor, mode          string
	maxRate               float64
	data, encoding, token string
	key                   string
}

var (
	modelInteger = regexp.MustCompile(`^-?[0-9]+$`)
	modelKey     = regexp.MustCompile(`^[!-~]{1,128}$`)
)

func modelParse(p []byte) (m modelCommand, code ErrorCode) {
	fields, twice, ok := modelFields(p)
	if !ok {
		return m, BadRequest
	}
	bad := false
	str := func(name string) (s string) {
		if raw, there := fields[name]; there && (raw[0] != '"' || json.Unmarshal(raw, &s) != nil) {
			bad = true
		}
		return s
	}
	need := func(name string) {
		if _, there := fields[name]; !there {
			bad = true
		}
	}

	if id, there := fields["id"]; there && !twice["id"] {
		if id[0] != '"' && !modelInteger.Match(id) || len(id) > 64 {
			return m, BadRequest
		}
		m.id = string(id)
	}
	need("type")
	if m.typ = str("type"); bad || len(twice) > 0 {
		return m, BadRequest
	}
	one := func() {
		need("topic")
		m.topics = []string{str("topic")}
	}
	several := func() {
		list, there := fields["topics"]
		if !there {
			one()
			return
		}
		var topics []*string
		if json.Unmarshal(list, &topics) != nil || len(topics) == 0 || fields["topic"] != nil || slices.Contains(topics, nil) {
			bad = true
			return
		}
		for _, topic := range topics {
			m.topics = append(m.topics, *topic)
		}
	}
	switch m.typ {
	case "ping":
	case "subscribe":
		several()
		m.cursor = str("cursor")
		if fields["mode"] != nil {
			m.mode = str("mode")
			bad = bad || !slices.Contains([]string{"all", "latest", "live"}, m.mode)
		}
		if rate := fields["max_rate"]; rate != nil {
			bad = bad || string(rate) == "null" || json.Unmarshal(rate, &m.maxRate) != nil || m.maxRate <= 0
		}
	case "unsubscribe":
		several()
	case "publish":
		one()
		need("data")
		m.data, m.encoding = string(fields["data"]), str("encoding")
		if fields["idempotency_key"] != nil {
			m.key = str("idempotency_key")
			bad = bad || !modelKey.MatchString(m.key)
		}
	case "presence":
		one()
	case "auth":
		need("token")
		m.token = str("token")
	default:
		return m, UnknownType
	}
	if bad {
		return m, BadRequest
	}
	return m, ""
}

// modelFields returns the members of an object, and which of those that the
// protocol knows are there twice.
func modelFields(p []byte) (fields map[string]json.RawMessage, twice map[string]bool, ok bool) {
	if !utf8.Valid(p) || !json.Valid(p) || bytes.TrimLeft(p, " \t\r\n")[0] != '{' {
		return nil, nil, false
	}
	fields, twice = map[string]json.RawMessage{}, map[string]bool{}
	d := json.NewDecoder(bytes.NewReader(p))
	if _, err := d.Token(); err != nil {
		panic(err)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			panic(err)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			panic(err)
		}
		raw = bytes.TrimSpace(raw)
		if modelDepth(raw) > 512 {
			return nil, nil, false
		}
		name := key.(string)
		if _, there := fields[name]; there && slices.Contains(fieldNames[:], name) {
			twice[name] = true
		}
		fields[name] = raw
	}
	return fields, twice, true
}

// modelDepth says how deep a valid JSON text nests.
func modelDepth(p []byte) (deepest int) {
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('['), json.Delim('{'):
			depth++
			deepest = max(deepest, depth)
		case json.Delim(']'), json.Delim('}'):
			depth--
		}
	}
}

func FuzzCommand(f *testing.F) {
	for _, seed := range []string{
		`{"type":"subscribe","id":1,"topics":["a","b\u002ec"],"mode":"latest","max_rate":2.5e0,"cursor":"k\/3"}`,
		`{"type":"subscribe","topic":"a","max_rate":1e-400}`,
		`{"type":"subscribe","topic":"a","topics":[]}`,
		`{"type":"publish","id":"x","topic":"a","data": [1 , {"a":"\ud83d\ude00"}] ,"encoding":"base64"}`,
		`{"type":"auth","token":"\ud83d\ud83d\ude00\ude00\u0000"}`,
		`{"type":"presence","topic":"a","id":-1,"id":2}`,
		`{"t\u0079pe":"ping","x":{"type":1},"x":[],"":0}`,
		`{"type":"ping","id":"` + strings.Repeat("é", 31) + `"}`,
		`{"type":"ping","x":` + strings.Repeat("[", 512) + strings.Repeat("]", 512) + `}`,
		`{"type":"ping","x":` + strings.Repeat(`[`, 513) + strings.Repeat(`]`, 513) + `}`,
		"{\"type\":\"ping\",\"\xff\":0}", "\ufeff{}", ` {} `, `{`, `[]`, `null`, `-`, `{"a":tru}`, `{"a":1,}`, `{"a":"\u12"}`,
	} {
		f.Add([]byte(seed))
	}
	var r Parser
	var c Command
	f.Fuzz(func(t *testing.T, p []byte) {
		before := bytes.Clone(p)
		want, code := modelParse(p)
		err := r.Parse(p, &c)
		if !bytes.Equal(p, before) {
			t.Fatalf("Parse wrote into its input: %q", p)
		}
		if c.ID.String() != want.id {
			t.Fatalf("id %q, want %q: %q", c.ID, want.id, p)
		}
		if err != nil {
			if err.Code != code {
				t.Fatalf("%v, want code %q: %q", err, code, p)
			}
			wantJSON(t, AppendError(nil, c.ID, err.Code, err.Message))
			return
		}
		got := modelCommand{typ: c.Type.String(), id: c.ID.String(), topics: c.Topics, cursor: c.Cursor, mode: string(c.Mode),
			maxRate: c.MaxRate, data: string(c.Data), encoding: c.Encoding, token: c.Token, key: c.Key}
		if code != "" || !slices.Equal(got.topics, want.topics) {
			t.Fatalf("got %+v, want %+v, code %q: %q", got, want, code, p)
		}
		got.topics, want.topics = nil, nil
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %+v, want %+v: %q", got, want, p)
		}
	})
}

// A view of an earlier string must not change when later ones make scratch grow.
func TestViewsSurviveGrowingScratch(t *testing.T) {
	var text strings.Builder
	text.WriteString(`{"type":"subscribe","topics":[`)
	var want []string
	for i := range 2000 {
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, `"\u0061.%d"`, i)
		want = append(want, "a."+strconv.Itoa(i))
	}
	text.WriteString(`]}`)
	var r Parser
	var c Command
	if err := r.Parse([]byte(text.String()), &c); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Topics, want) {
		t.Error("the topics are not those that were sent")
	}
}

func TestHugeCommandIsForgotten(t *testing.T) {
	huge := `{"type":"subscribe","topics":["` + strings.Repeat(`\u0061`, 10_000) + `"` + strings.Repeat(`,"a"`, 10_000) + `]}`
	var r Parser
	var c Command
	for _, text := range []string{huge, `{"type":"ping"}`} {
		if err := r.Parse([]byte(text), &c); err != nil {
			t.Fatal(err)
		}
	}
	if cap(c.Topics) > keptTopics || cap(r.scratch) > keptScratch {
		t.Errorf("%d topics and %d bytes are still held", cap(c.Topics), cap(r.scratch))
	}
}

func TestNestingIsBounded(t *testing.T) {
	var r Parser
	var c Command
	for _, nest := range []string{"[", `{"a":`, `[{"a":`} {
		text := `{"type":"ping","x":` + strings.Repeat(nest, 64<<10/len(nest))
		err := r.Parse([]byte(text), &c)
		if err == nil || !strings.Contains(err.Message, strconv.Itoa(maxDepth)) {
			t.Errorf("64 KiB of %s: error %v, want one that names the limit of %d", nest, err, maxDepth)
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	var r Parser
	var c Command
	for _, text := range []string{
		`{"type":"subscribe","id":1,"topic":"stocks.AAPL"}`,
		`{"type":"subscribe","id":1,"topics":["a","b","\u0063"],"mode":"live","max_rate":2}`,
		`{"type":"publish","id":"x","topic":"chat.lobby","data":{"text":"hi"}}`,
		`{"type":"ping"}`,
	} {
		p := []byte(text)
		if n := testing.AllocsPerRun(100, func() {
			if err := r.Parse(p, &c); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v allocations: %s", n, text)
		}
	}
}

func BenchmarkParseSubscribe(b *testing.B) {
	p := []byte(`{"type":"subscribe","id":1,"topic":"stocks.AAPL"}`)
	var r Parser
	var c Command
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Parse(p, &c); err != nil {
			b.Fatal(err)
		}
	}
}
