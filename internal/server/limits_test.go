package server

import (
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/config"
)

// A namespace may take less than the server does, by whatever way it comes.
func TestMaxMessageOfNamespace(t *testing.T) {
	r := start(t, func(c *config.Config) {
		small := c.Default
		small.MaxMessage = 8
		c.Namespaces = map[string]config.Namespace{"small": small}
	})
	const within, beyond = `"123456"`, `"1234567"`
	for _, c := range []struct {
		topic, data string
		status      int
	}{{"small.x", within, 202}, {"small.x", beyond, 413}, {"other.x", beyond, 202}} {
		if got, _, text := r.http("POST", "/publish/"+c.topic, "", c.data); got != c.status {
			t.Errorf("%s to %s: %d %s", c.data, c.topic, got, text)
		}
	}
	_, _, text := r.http("POST", "/publish", "application/x-ndjson", `{"topic":"small.x","data":`+beyond+`}`)
	if !strings.Contains(text, "message_too_large") || !strings.Contains(text, "max_message of namespace small") {
		t.Errorf("a line too large: %s", text)
	}
	s := r.subscribed("small.x")
	s.send(`{"type":"publish","id":1,"topic":"small.x","data":` + beyond + `}`)
	if e := s.want("error"); e.Code != "message_too_large" {
		t.Errorf("a command too large: %+v", e)
	}
	r.http("POST", "/publish/small.x", "", within)
	s.wantData("small.x", within)
}
