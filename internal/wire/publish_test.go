package wire

import (
	"bytes"
	"strings"
	"testing"
)

func TestParsePublication(t *testing.T) {
	cases := []struct{ line, topic, payload, refusal string }{
		{`{"topic":"a.b","data":{"x":1}}`, "a.b", `{"x":1}`, ""},
		{`{"topic":"a","data": "text" }` + "\r", "a", `"text"`, ""},
		{`{"topic":"a","data":"3q2+7w==","encoding":"base64"}`, "a", "\xde\xad\xbe\xef", ""},
		{`{"topic":"a","data":"","encoding":"base64"}`, "a", "", ""},
		{`{"topic":"\u0061","data":0,"type":"subscribe","id":{}}`, "a", "0", ""},
		{`{"topic":"a","data":0,"idempotency_key":"k"}`, "a", "0", ""},
		{`{"topic":"a","data":0,"idempotency_key":"caf\u00e9"}`, "a", "", "visible ASCII"},
		{`{"topic":"a","data":0,"idempotency_key":null}`, "a", "", "must be a string"},
		{``, "", "", "not valid JSON"},
		{`{"topic":"a","data":1`, "", "", "not valid JSON"},
		{"{\"topic\":\"\xff\",\"data\":1}", "", "", "not valid UTF-8"},
		{`["a",1]`, "", "", "not a JSON object"},
		{`{"data":1}`, "", "", `"topic" is missing`},
		{`{"topic":["a"],"data":1}`, "", "", `"topic" must be a string`},
		{`{"topic":"a"}`, "a", "", `"data" is missing`},
		{`{"topic":"a","data":1,"data":2}`, "a", "", `"data" stands there twice`},
		{`{"topic":"a","data":1,"topic":"b"}`, "", "", `"topic" stands there twice`},
		{`{"topic":"a","data":1,"encoding":"base64"}`, "a", "", `must be a string`},
		{`{"topic":"a","data":"3q2-7w==","encoding":"base64"}`, "a", "", `not standard base64`},
		{`{"topic":"a","data":"3q2+7x==","encoding":"base64"}`, "a", "", `not standard base64`},
		{`{"topic":"a","data":"x","encoding":"gzip"}`, "a", "", `"encoding" is "gzip"`},
	}
	var r Parser
	for _, c := range cases {
		var pub Publication
		err := r.ParsePublication([]byte(c.line), &pub)
		if pub.Topic != c.topic {
			t.Errorf("topic %q, want %q: %s", pub.Topic, c.topic, c.line)
		}
		if c.refusal == "" {
			if err != nil || string(pub.Data) != c.payload {
				t.Errorf("payload %q, error %v, want %q: %s", pub.Data, err, c.payload, c.line)
			}
			continue
		}
		if err == nil || err.Code != BadRequest || !strings.Contains(err.Message, c.refusal) {
			t.Errorf("error %v, want one with %q: %s", err, c.refusal, c.line)
		}
	}
}

// What is published as data comes back as the same data.
func TestPublishedDataComesBack(t *testing.T) {
	var r Parser
	for _, data := range []string{`{"a": [1, 2.50]}`, `"text"`, `"\ud800 \/"`, `null`, `-0`, `"3q2+7w==","encoding":"base64"`} {
		var pub Publication
		if err := r.ParsePublication([]byte(`{"topic":"a","data":`+data+`}`), &pub); err != nil {
			t.Fatal(err)
		}
		if got, want := AppendMessage(nil, "a", "", 1, pub.Data), []byte(`,"data":`+data+`}`); !bytes.HasSuffix(got, want) {
			t.Errorf("delivered as %s, want %s", got, want)
		}
	}
}
