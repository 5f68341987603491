package server

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
)

// documented is the page whose permissions are tried here.
const documented = "../../docs/security/nats.md"

// documentedBlock returns what is between ```name and ``` in the page.
func documentedBlock(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile(documented)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "```"+name+"\n")
	block, _, ended := strings.Cut(rest, "```")
	if !found || !ended {
		t.Fatalf("%s has no block of %s", documented, name)
	}
	return block
}

// without takes a permission out of the documented block: a line of its own in
// the list of publish, or of subscribe.
func without(t *testing.T, conf, list, subject string) string {
	t.Helper()
	at := strings.Index(conf, list+": [\n")
	end := at + strings.Index(conf[at:], "]")
	line := `          "` + subject + "\"\n"
	if at < 0 || strings.Count(conf[at:end], line) != 1 {
		t.Fatalf("%s: %s is not among what may be used to %s", documented, subject, list)
	}
	return conf[:at] + strings.Replace(conf[at:end], line, "", 1) + conf[end:]
}

// guardedNATS is a NATS server with these permissions, and an operator beside.
type guardedNATS struct {
	*natstest.Process
	log logged
}

func (l *logged) has(text string) bool {
	return strings.Contains(l.String(), text)
}

const operatorUser = `{ user: operator, password: o },`

func startGuarded(t *testing.T, conf string) *guardedNATS {
	t.Helper()
	conf = strings.Replace(conf, "users = [", "users = [ "+operatorUser, 1)
	return &guardedNATS{Process: natstest.Start(t, natstest.Store(t.TempDir()), natstest.Config(conf))}
}

func (g *guardedNATS) url(user, password string) string {
	return "nats://" + user + ":" + strings.ReplaceAll(password, " ", "%20") + "@" + g.Addr()
}

func (g *guardedNATS) client(t *testing.T, user, password string, options ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(g.url(user, password), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// settings are those of a pushd with the documented namespaces.
func (g *guardedNATS) settings(t *testing.T) config.Config {
	t.Helper()
	want := "scores: {delivery: all, history: {age: 24h}}|stocks: {delivery: latest}|chat: {delivery: live}"
	block := regexp.MustCompile(`(?m)^  (\S+: \{.*\}) +#`).FindAllStringSubmatch(documentedBlock(t, "yaml"), -1)
	var got []string
	for _, line := range block {
		got = append(got, line[1])
	}
	if strings.Join(got, "|") != want {
		t.Fatalf("%s has the namespaces %q, and the test has %s", documented, got, want)
	}
	cfg := config.Default()
	cfg.Listen, cfg.Admin, cfg.Shards = "127.0.0.1:0", "127.0.0.1:0", 2
	cfg.NATS = []string{g.url("pushd", "change me")}
	live := config.Namespace{Delivery: config.DeliveryLive, Interest: config.InterestNamespace}
	all, latest := live, live
	all.Delivery, all.History = config.DeliveryAll, config.History{Age: 24 * time.Hour}
	latest.Delivery, latest.History = config.DeliveryLatest, config.History{Messages: 1}
	cfg.Namespaces = map[string]config.Namespace{"scores": all, "stocks": latest, "chat": live}
	return cfg
}

// pushd starts one, or says why it does not.
func (g *guardedNATS) pushd(t *testing.T, change ...func(*config.Config)) (*running, error) {
	t.Helper()
	cfg := g.settings(t)
	for _, f := range change {
		f(&cfg)
	}
	return launch(t, cfg, &g.log)
}

// publishing publishes over HTTP, and returns the cursor.
func (r *running) publishing(topic, data string) string {
	r.t.Helper()
	status, _, body := r.http("POST", "/publish/"+topic, "", data)
	var at message
	if err := json.Unmarshal([]byte(body), &at); err != nil || status/100 != 2 {
		r.t.Fatalf("publishing to %s: %d %s", topic, status, body)
	}
	return at.Cursor
}

// features uses all that pushd does with NATS.
func (g *guardedNATS) features(t *testing.T, r *running) {
	t.Helper()
	s := r.subscribed("chat.*", "scores.>")
	s.send(`{"type":"publish","topic":"chat.lobby","data":1}`)
	for range 2 { // in either order
		if m := s.receive(); m.Type != "published" && (m.Type != "message" || m.Topic != "chat.lobby") {
			t.Errorf("received %+v", m)
		}
	}
	first := r.publishing("scores.a.b", "1")
	s.wantData("scores.a.b", "1")
	backend := g.client(t, "backend", "change me too")
	if _, err := backend.Request("push.scores.a.b", []byte("2"), patience); err != nil { // JetStream's acknowledgement
		t.Errorf("a publisher's message is not acknowledged: %v", err)
	}
	s.wantData("scores.a.b", "2")

	s = r.dial("topic=scores.a.b&cursor=" + first)
	s.want("welcome")
	if m := s.want("subscribed"); m.Recovered == nil || !*m.Recovered {
		t.Errorf("resumed: %+v", m)
	}
	s.wantData("scores.a.b", "2")

	r.publishing("stocks.AAPL", "187")
	r.publishing("stocks.AAPL", "188")
	s = r.dial("topic=stocks.*")
	s.want("welcome")
	s.want("subscribed")
	s.wantData("stocks.AAPL", "188")
	status, _, body := r.http("GET", "/history/scores.a.b", "", "")
	if status != 200 || !strings.Contains(body, `"data":2}]`) {
		t.Errorf("/history: %d %s", status, body)
	}
}

// TestNATSPermissions does everything with exactly what the page names.
func TestNATSPermissions(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, documentedBlock(t, "conf"))
	r, err := g.pushd(t)
	if err != nil {
		t.Fatal(err)
	}
	g.features(t, r)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if r, err = g.pushd(t); err != nil { // it finds the streams, and what is in them
		t.Fatal(err)
	}
	g.features(t, r)
	other, err := g.pushd(t)
	if err != nil {
		t.Fatal(err)
	}
	r.subscribed("chat.far")
	eventually(t, "nodes hear each other", func() bool { return other.presence("chat.far").Connections == 1 && len(r.nodes()) == 2 })
	var st drainStatus
	r.do(200, "GET", "/nodes/"+other.name+"/drain", &st)
	for _, r := range []*running{r, other} {
		if n := r.bus.State().Denied; n != 0 {
			t.Errorf("%d subjects were denied", n)
		}
	}

	// What is asked of --authorize passes the same permissions.
	operator := g.client(t, "operator", "o")
	if _, err := operator.Subscribe("auth.pushd", func(m *nats.Msg) { _ = m.Respond([]byte("yes")) }); err != nil {
		t.Fatal(err)
	}
	if err := operator.Flush(); err != nil {
		t.Fatal(err)
	}
	asking := g.client(t, "pushd", "change me", nats.CustomInboxPrefix("_INBOX_push"))
	if m, err := asking.Request("auth.pushd", nil, patience); err != nil || string(m.Data) != "yes" {
		t.Errorf("auth.pushd: %v", err)
	}
	// Nothing else does.
	for _, subject := range []string{"other", "push", "push-live.scores.a.b", "$SYS.REQ.SERVER.PING", "_INBOX_push.x", "_INBOX.x", "$JS.API.STREAM.DELETE.push_scores", "$JS.API.STREAM.PURGE.push_scores", "$JS.API.STREAM.LIST", "$JS.API.DIRECT.GET.other"} {
		g.wantDenied(t, "pushd", "change me", func(nc *nats.Conn) error { return nc.Publish(subject, nil) }, subject)
	}
	for _, subject := range []string{">", "*", "_INBOX.>", "$JS.>", "auth.pushd", "push"} {
		g.wantDenied(t, "pushd", "change me", func(nc *nats.Conn) error { _, err := nc.SubscribeSync(subject); return err }, subject)
	}
	for _, subject := range []string{"push-live.scores.a.b", "$JS.API.STREAM.DELETE.push_scores", "push._pushd.control", "push._pushd.nodes.x"} {
		g.wantDenied(t, "backend", "change me too", func(nc *nats.Conn) error { return nc.Publish(subject, nil) }, subject)
	}
}

// wantDenied has a user try what it may not do.
func (g *guardedNATS) wantDenied(t *testing.T, user, password string, try func(*nats.Conn) error, subject string) {
	t.Helper()
	denied := make(chan error, 1)
	nc := g.client(t, user, password, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	defer nc.Close()
	if err := try(nc); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-denied:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`) {
			t.Errorf("%s on %s: %v", user, subject, err)
		}
	case <-time.After(patience):
		t.Errorf("%s may use %s", user, subject)
	}
}

// TestNATSPermissionsTaken takes permissions away, one at a time.
func TestNATSPermissionsTaken(t *testing.T) {
	t.Parallel()
	conf := documentedBlock(t, "conf")
	fails := func(list, subject, want string) {
		t.Run(subject, func(t *testing.T) {
			t.Parallel()
			g := startGuarded(t, without(t, conf, list, subject))
			if _, err := g.pushd(t); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
	fails("publish", "$JS.API.STREAM.INFO.push_stocks", "$JS.API.STREAM.INFO.push_stocks: allow this account to ask for it")
	fails("publish", "$JS.API.STREAM.CREATE.push_scores", "this NATS account may not create stream push_scores: allow $JS.API.STREAM.CREATE.push_scores, or have it done: nats stream add push_scores ")
	fails("subscribe", "_INBOX_push.>", "allow this account to subscribe to _INBOX_push.>")

	serves := func(list, subject string, use func(t *testing.T, r *running)) {
		t.Run(list+" "+subject, func(t *testing.T) {
			t.Parallel()
			g := startGuarded(t, without(t, conf, list, subject))
			r, err := g.pushd(t)
			if err != nil {
				t.Fatal(err)
			}
			use(t, r)
			eventually(t, "the log names it", func() bool { return g.log.has("NATS permissions deny a subject") })
		})
	}
	wantError := func(s *socket, command, code, topic string) {
		s.t.Helper()
		s.send(command)
		if m := s.want("error"); m.Code != code || !strings.Contains(m.Message, topic) {
			s.t.Errorf("%s: %+v", command, m)
		}
	}
	serves("publish", "push.>", func(t *testing.T, r *running) {
		wantError(r.subscribed("chat.*"), `{"type":"publish","topic":"chat.lobby","data":1}`, "forbidden", "push.chat.lobby")
		wantError(r.subscribed("scores.*"), `{"type":"publish","topic":"scores.a","data":1}`, "forbidden", "push.scores.a")
	})
	serves("subscribe", "push.>", func(t *testing.T, r *running) {
		wantError(r.subscribed("scores.>"), `{"type":"subscribe","topic":"chat.*"}`, "forbidden", "chat.*")
	})
	serves("subscribe", "push-live.>", func(t *testing.T, r *running) {
		wantError(r.subscribed("chat.*"), `{"type":"subscribe","topic":"scores.a"}`, "forbidden", "scores.a")
	})
	serves("publish", "$JS.API.DIRECT.GET.push_stocks", func(t *testing.T, r *running) {
		r.publishing("stocks.AAPL", "1")
		if status, _, body := r.http("GET", "/history/stocks.AAPL", "", ""); status != 403 || strings.Contains(body, "$JS") {
			t.Errorf("/history: %d %s", status, body)
		}
		s := r.subscribed()
		wantError(s, `{"type":"subscribe","topic":"stocks.*"}`, "forbidden", "stocks.*")
		first := r.publishing("scores.a", "1")
		s.send(`{"type":"subscribe","topic":"scores.a","cursor":"` + first + `"}`)
		if m := s.want("subscribed"); m.Recovered == nil || !*m.Recovered {
			t.Errorf("another stream is affected: %+v", m)
		}
	})
}

// TestNATSStreamsMade leaves making and changing streams to their operator.
func TestNATSStreamsMade(t *testing.T) {
	t.Parallel()
	conf := documentedBlock(t, "conf")
	for _, stream := range []string{"push_scores", "push_stocks"} {
		conf = without(t, conf, "publish", "$JS.API.STREAM.CREATE."+stream)
		conf = without(t, conf, "publish", "$JS.API.STREAM.UPDATE."+stream)
	}
	g := startGuarded(t, conf)
	r, err := g.pushd(t, func(c *config.Config) { c.NATS = []string{g.url("operator", "o")} }) // as its operator
	if err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if r, err = g.pushd(t); err != nil {
		t.Fatal(err)
	}
	g.features(t, r)
	if n := r.bus.State().Denied; n != 0 {
		t.Errorf("%d subjects were denied", n)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	want := "this NATS account may not update stream push_scores (max_age is 24h0m0s): allow $JS.API.STREAM.UPDATE.push_scores, or have it done: nats stream edit push_scores "
	if _, err := g.pushd(t, func(c *config.Config) {
		scores := c.Namespaces["scores"]
		scores.History.Age = 48 * time.Hour
		c.Namespaces["scores"] = scores
	}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
