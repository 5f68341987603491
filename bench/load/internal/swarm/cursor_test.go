package swarm

import (
	"strings"
	"testing"

	"github.com/pushd/pushd/bench/load/internal/control"
)

// From whatever a server says the cursor is known that the next subscription needs.
func TestResume(t *testing.T) {
	f := func(cursorMark, epochMark, template, want string, messages ...string) {
		t.Helper()
		plan := &control.Plan{Topics: []string{"t.0"}, CursorMark: cursorMark, EpochMark: epochMark, Resume: template}
		s := &Swarm{plan: plan, text: newTemplates(plan), positions: make([]position, 1)}
		c := &client{}
		if s.resumes(c) {
			t.Error("it resumes from nowhere")
		}
		for _, m := range messages {
			s.locate(c, []byte(m), strings.LastIndex(m, "STAMP")+1)
		}
		if got := string(s.text.resume(0, 2, s.positions[0])); got != want || !s.resumes(c) {
			t.Errorf("%q: %s, want %s", messages, got, want)
		}
	}
	const pushd = `{"type":"subscribe","id":{id},"topic":"{topic}","cursor":"{cursor}"}`
	f(`"cursor":"`, "", pushd, `{"type":"subscribe","id":2,"topic":"t.0","cursor":"k3:40"}`,
		`{"type":"subscribed","id":1,"topic":"t.0","cursor":"k3:40"}`)
	f(`"cursor":"`, "", pushd, `{"type":"subscribe","id":2,"topic":"t.0","cursor":"k3:142"}`,
		`{"cursor":"k3:40"}`, `{"cursor":"k3:142","data":1}`, `{"type":"pong"}`)
	const centrifuge = `{"id":{id},"subscribe":{"channel":"{topic}","recover":true,"offset":{cursor},"epoch":"{epoch}"}}`
	f(`"offset":`, `"epoch":"`, centrifuge, `{"id":2,"subscribe":{"channel":"t.0","recover":true,"offset":7,"epoch":"xYz"}}`,
		`{"id":2,"subscribe":{"recoverable":true,"epoch":"xYz","offset":5,"positioned":true}}`,
		`{"push":{"pub":{"data":{},"offset":6}}}`+"\n"+`{"push":{"pub":{"data":{},"offset":7}}}`)
	f(`"offset":`, `"epoch":"`, centrifuge, `{"id":2,"subscribe":{"channel":"t.0","recover":true,"offset":9,"epoch":"xYz"}}`,
		`{"subscribe":{"epoch":"xYz","publications":[{"data":"STAMP","offset":8},{"data":"STAMP","offset":9}],"recovered":true,"offset":7}}`)
	f(`"cursor":"`, "", pushd, `{"type":"subscribe","id":2,"topic":"t.0","cursor":"k3:41"}`, `[{"cursor":"k3:40","data":"STAMP"},{"cursor":"k3:41","data":"STAMP"}]`)
	f(`after `, "", `{cursor}`, "41", "after 40", "after 41") // up to the end
}
