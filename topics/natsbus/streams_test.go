package natsbus

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

// jetStream is a client of JetStream besides the Bus.
func jetStream(t testing.TB, url string) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(client(t, url))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func streamConfig(t testing.TB, js jetstream.JetStream, name string) jetstream.StreamConfig {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config
}

// openClose opens a Bus that has these streams, and closes it. It returns what
// was logged.
func openClose(t *testing.T, cfg Config) string {
	t.Helper()
	var logged strings.Builder
	cfg.Log = slog.New(slog.NewTextHandler(&logged, nil))
	b, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return logged.String()
}

// TestStreamSettings wants streams as configured, made and then changed.
func TestStreamSettings(t *testing.T) {
	s := natstest.Start(t, natstest.Store(t.TempDir()))
	js := jetStream(t, s.URL())
	f := func(name string, config StreamConfig, wantLog string, want jetstream.StreamConfig) {
		t.Helper()
		logged := openClose(t, Config{URLs: []string{s.URL()}, Streams: map[string]StreamConfig{"ns": config}})
		if !strings.Contains(logged, wantLog) || wantLog == "" && strings.Contains(logged, "stream") {
			t.Errorf("%s: logged %s", name, logged)
		}
		got := streamConfig(t, js, want.Name)
		got.Metadata = nil // the server's
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	want := jetstream.StreamConfig{
		Name: "push_ns", Description: "history of pushd's namespace ns", Subjects: []string{"push.ns", "push.ns.>"},
		MaxConsumers: -1, MaxMsgs: -1, MaxBytes: 1 << 20, MaxAge: time.Hour, MaxMsgsPerSubject: 10, MaxMsgSize: -1,
		Replicas: 1, Duplicates: 2 * time.Minute, AllowDirect: true,
		RePublish: &jetstream.RePublish{Source: "push.>", Destination: "push-live.>"},
	}
	config := StreamConfig{Age: time.Hour, Bytes: 1 << 20, Messages: 10}
	f("made", config, `msg="stream created" stream=push_ns namespace=ns`, want)
	f("left alone", config, "", want)

	config.Age, config.Messages = time.Minute, 0
	want.MaxAge, want.Duplicates, want.MaxMsgsPerSubject = time.Minute, time.Minute, -1
	f("shrunk", config, `level=WARN msg="stream updated" stream=push_ns namespace=ns changed="max_age: 1h0m0s to 1m0s; max_msgs_per_subject: 10 to -1; duplicate_window: 2m0s to 1m0s"`, want)

	config.Age, config.Bytes = 0, 1<<30
	want.MaxAge, want.Duplicates, want.MaxBytes = 0, 2*time.Minute, 1<<30
	f("grown", config, "level=INFO", want)

	// What people changed is put right, and what does not concern pushd stays.
	spoilt := streamConfig(t, js, "push_ns")
	spoilt.AllowDirect, spoilt.RePublish, spoilt.Discard, spoilt.Subjects, spoilt.NoAck = false, nil, jetstream.DiscardNew, []string{"push.ns.a"}, true
	spoilt.Description, spoilt.Compression = "ours", jetstream.S2Compression
	if _, err := js.UpdateStream(t.Context(), spoilt); err != nil {
		t.Fatal(err)
	}
	want.Description, want.Compression = "ours", jetstream.S2Compression
	f("put right", config, "subjects: push.ns.a to push.ns,push.ns.>", want)

	f("elsewhere", StreamConfig{Name: "E", Subject: "acme.ns", Messages: 1, InMemory: true}, "created", jetstream.StreamConfig{
		Name: "E", Subjects: []string{"acme.ns", "acme.ns.>"}, Storage: jetstream.MemoryStorage,
		MaxConsumers: -1, MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: 1, MaxMsgSize: -1,
		Replicas: 1, Duplicates: 2 * time.Minute, AllowDirect: true, Description: "history of pushd's namespace ns",
		RePublish: &jetstream.RePublish{Source: ">", Destination: "push-live.ns.>"},
	})
}

// TestMemoryShares wants streams of an embedded server without a folder to
// drop what is old when its memory is full.
func TestMemoryShares(t *testing.T) {
	b, _ := open(t, Config{Listen: "127.0.0.1:0", Streams: map[string]StreamConfig{
		"a": {Age: time.Hour}, "b": {Messages: 1}, "c": {Bytes: 512 << 20},
	}})
	js := jetStream(t, b.ClientURL())
	for name, want := range map[string]int64{"push_a": 128 << 20, "push_b": 128 << 20, "push_c": 512 << 20} {
		if c := streamConfig(t, js, name); c.Storage != jetstream.MemoryStorage || c.MaxBytes != want {
			t.Errorf("%s: %v of %d bytes, want memory of %d", name, c.Storage, c.MaxBytes, want)
		}
	}
}

func TestStreamErrors(t *testing.T) {
	s := natstest.Start(t, natstest.Store(t.TempDir()))
	js := jetStream(t, s.URL())
	bare := natstest.Start(t)
	accounts := natstest.Start(t, natstest.Store(t.TempDir()), natstest.Config(`accounts { A: { users: [ { user: u, password: p } ] } }`))
	make := func(c jetstream.StreamConfig) {
		t.Helper()
		if _, err := js.CreateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	make(jetstream.StreamConfig{Name: "MEM", Subjects: []string{"push.mem"}, Storage: jetstream.MemoryStorage})
	make(jetstream.StreamConfig{Name: "WORK", Subjects: []string{"push.work"}, Retention: jetstream.WorkQueuePolicy})
	make(jetstream.StreamConfig{Name: "MIRROR", Mirror: &jetstream.StreamSource{Name: "MEM"}})
	make(jetstream.StreamConfig{Name: "WIDE", Subjects: []string{"push.wide", "other.>"}})

	f := func(name string, cfg Config, want string) {
		t.Run(name, func(t *testing.T) {
			if cfg.URLs == nil {
				cfg.URLs = []string{s.URL()}
			}
			if got := openFails(t, context.Background(), cfg); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	one := func(config StreamConfig) Config { return Config{Streams: map[string]StreamConfig{"ns": config}} }
	f("no bound", one(StreamConfig{}), "namespace ns: history: stream push_ns would grow for ever: set age, bytes or messages")
	f("name", one(StreamConfig{Name: "a.b", Messages: 1}), `namespace ns: history: stream name "a.b" holds a blank or one of . * > / \: correct it`)
	f("subject", one(StreamConfig{Subject: "a.*", Messages: 1}), `namespace ns: history: subject "a.*" is no subject without wildcards: correct it`)
	f("negative", one(StreamConfig{Bytes: -1}), "namespace ns: history: age, bytes, messages and replicas cannot be negative: correct them")
	f("too short", one(StreamConfig{Age: time.Millisecond}), "namespace ns: history: age 1ms: NATS takes 100ms or more")
	f("too many replicas", one(StreamConfig{Messages: 1, Replicas: 7}), "namespace ns: history: 7 replicas: NATS keeps 5 at most")
	f("namespace", Config{Streams: map[string]StreamConfig{"a.b": {Messages: 1}}}, `history of "a.b": a namespace is one token of A-Z a-z 0-9 _ -: correct its name`)
	f("same stream", Config{Streams: map[string]StreamConfig{"a": {Name: "S", Messages: 1}, "b": {Name: "S", Messages: 1}}},
		"namespaces a and b: both are to be kept in stream S: give each its own")

	rm := ", or remove it with its messages: nats stream rm "
	f("storage", one(StreamConfig{Name: "MEM", Subject: "push.mem", Messages: 1}),
		"namespace ns: stream MEM is kept in memory and should be in file, which cannot be changed: configure the namespace so"+rm+"MEM")
	f("retention", one(StreamConfig{Name: "WORK", Subject: "push.work", Messages: 1}),
		"namespace ns: stream WORK has workqueue retention and should have limits, which cannot be changed: name another stream"+rm+"WORK")
	f("mirror", one(StreamConfig{Name: "MIRROR", Messages: 1}),
		"namespace ns: stream MIRROR takes its messages from other streams, which cannot be changed: name another stream"+rm+"MIRROR")
	f("other subjects", one(StreamConfig{Name: "WIDE", Subject: "push.wide", Messages: 1}),
		"namespace ns: stream WIDE stores other.>, which is not push.wide nor below it: name another stream")
	f("subjects of another stream", one(StreamConfig{Name: "NEW", Subject: "push.mem", Messages: 1}),
		"namespace ns: cannot create stream NEW: subjects overlap with an existing stream: correct the namespace's history, or the limits of the NATS account")
	f("replicas without a cluster", one(StreamConfig{Messages: 1, Replicas: 3}),
		"namespace ns: cannot create stream push_ns: replicas > 1 not supported in non-clustered mode: correct the namespace's history, or the limits of the NATS account")
	f("no JetStream", Config{URLs: []string{bare.URL()}, Streams: map[string]StreamConfig{"ns": {Messages: 1}}},
		"namespace ns keeps history, and NATS at "+bare.URL()+" has no JetStream: enable it there, or let the namespace keep none")
	f("account without JetStream", Config{URLs: []string{"nats://u:p@" + accounts.Addr()}, Streams: map[string]StreamConfig{"ns": {Messages: 1}}},
		"namespace ns keeps history, and the account has no JetStream on NATS at nats://u:xxxxx@"+accounts.Addr()+": enable it for the account, or let the namespace keep none")
}

// TestExisting maps streams of somebody else's.
func TestExisting(t *testing.T) {
	s := natstest.Start(t, natstest.Store(t.TempDir()))
	js := jetStream(t, s.URL())
	base := jetstream.StreamConfig{
		Name: "ORDERS", Subjects: []string{"orders.>"}, MaxMsgsPerSubject: 5, AllowDirect: true,
		Storage:   jetstream.MemoryStorage, // the server removes files some time later
		RePublish: &jetstream.RePublish{Source: "orders.>", Destination: "live.orders.>"},
	}
	open := Config{URLs: []string{s.URL()}, Streams: map[string]StreamConfig{"ns": {Name: "ORDERS", Subject: "orders", Existing: true}}}
	try := func(t *testing.T, edit func(*jetstream.StreamConfig), use func()) {
		t.Helper()
		c := base
		edit(&c)
		if _, err := js.CreateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		before := streamConfig(t, js, "ORDERS")
		use()
		if diff := cmp.Diff(before, streamConfig(t, js, "ORDERS")); diff != "" {
			t.Errorf("changed: %s", diff)
		}
		if err := js.DeleteStream(t.Context(), "ORDERS"); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(name, want string, edit func(*jetstream.StreamConfig)) {
		t.Run(name, func(t *testing.T) {
			try(t, edit, func() {
				if got := openFails(t, context.Background(), open); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			})
		})
	}
	t.Run("missing", func(t *testing.T) {
		want := "namespace ns: stream ORDERS does not exist: create it, or correct the name"
		if got := openFails(t, context.Background(), open); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	const edit = "nats stream edit ORDERS "
	republish := edit + "--republish-source='>' --republish-destination='push-live.ns.>'"
	refused("other subjects", "namespace ns: stream ORDERS stores other, which is not orders nor below it, so that its numbers would leave gaps: correct the namespace's subject, or move the rest to another stream",
		func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "other") })
	refused("similar subject", "namespace ns: stream ORDERS stores orders2.>, which is not orders nor below it, so that its numbers would leave gaps: correct the namespace's subject, or move the rest to another stream",
		func(c *jetstream.StreamConfig) { c.Subjects = []string{"orders2.>"} })
	refused("interest", "namespace ns: stream ORDERS has interest retention, so that what nobody consumes is not kept: "+edit+"--retention=limits",
		func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy })
	refused("work queue", "namespace ns: stream ORDERS has workqueue retention, so that consumers remove messages: name a stream with limits retention",
		func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy })
	refused("no ack", "namespace ns: stream ORDERS does not acknowledge: "+edit+"--ack",
		func(c *jetstream.StreamConfig) { c.NoAck = true })
	refused("no direct get", "namespace ns: stream ORDERS allows no direct gets: "+edit+"--allow-direct",
		func(c *jetstream.StreamConfig) { c.AllowDirect = false })
	refused("no republish", "namespace ns: stream ORDERS does not republish: "+republish,
		func(c *jetstream.StreamConfig) { c.RePublish = nil })
	refused("headers only", "namespace ns: stream ORDERS republishes headers alone: "+edit+"--no-republish-headers",
		func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Destination: "live.>", HeadersOnly: true}
		})
	refused("republishes a part", "namespace ns: stream ORDERS republishes orders.eu.> alone, not all of orders.>: "+republish,
		func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: "orders.eu.>", Destination: "live.>"}
		})
	refused("republishes to who knows where", `namespace ns: stream ORDERS republishes in a way that cannot be followed: "{{partition(3,1)}}" in its destination is more than a wildcard's place: `+republish,
		func(c *jetstream.StreamConfig) {
			c.Subjects = []string{"orders.*"}
			c.RePublish = &jetstream.RePublish{Source: "orders.*", Destination: "live.{{partition(3,1)}}"}
		})
	refused("republishes among the ephemeral", "namespace ns: stream ORDERS republishes to push.x.>, where namespaces without history live: "+edit+"--republish-destination='push-live.ns.>'",
		func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: "orders.>", Destination: "push.x.>"}
		})
	refused("transform", "namespace ns: stream ORDERS stores under other subjects than were published to: name a stream without a subject transform",
		func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "orders.>", Destination: "orders.x.>"}
		})

	t.Run("loop", func(t *testing.T) {
		try(t, func(c *jetstream.StreamConfig) {}, func() {
			cfg := open
			cfg.Streams = map[string]StreamConfig{"ns": open.Streams["ns"], "z": {Subject: "live.orders", Messages: 1}}
			want := "namespace ns: stream ORDERS republishes to live.orders.>, which stream push_z stores: nats stream edit ORDERS --republish-destination='push-live.ns.>'"
			if got := openFails(t, context.Background(), cfg); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if err := js.DeleteStream(t.Context(), "push_z"); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("same destination", func(t *testing.T) {
		try(t, func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "push-live.>"}
		}, func() {
			cfg := open
			cfg.Streams = map[string]StreamConfig{"ns": open.Streams["ns"], "z": {Subject: "push.orders", Messages: 1}, "orders": {Messages: 1}}
			delete(cfg.Streams, "z")
			want := "namespaces ns and orders: streams ORDERS and push_orders both republish to push-live.orders.>: nats stream edit ORDERS --republish-destination='push-live.ns.>'"
			if got := openFails(t, context.Background(), cfg); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	})

	fits := func(name string, topicNames []string, edit func(*jetstream.StreamConfig)) {
		t.Run(name, func(t *testing.T) {
			try(t, edit, func() { useExisting(t, open, topicNames) })
		})
	}
	below := []string{"ns.a", "ns.b.c"}
	fits("below its subject", below, func(*jetstream.StreamConfig) {})
	fits("bare subject too", append(below, "ns"), func(c *jetstream.StreamConfig) {
		c.Subjects = append(c.Subjects, "orders")
		c.RePublish = &jetstream.RePublish{Destination: "live.>"}
	})
	fits("wildcards", []string{"ns.a.1", "ns.b.1"}, func(c *jetstream.StreamConfig) {
		c.Subjects = []string{"orders.*.1"}
		c.RePublish = &jetstream.RePublish{Source: "*.*.1", Destination: "live.{{wildcard(2)}}.from.$1"}
	})
	fits("several subjects", []string{"ns.a.1", "ns.b"}, func(c *jetstream.StreamConfig) {
		c.Subjects = []string{"orders.a.*", "orders.b"}
		c.RePublish = &jetstream.RePublish{Destination: "live.>"}
	})
}

// useExisting publishes, listens and reads through a mapped stream.
func useExisting(t *testing.T, cfg Config, names []string) {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	b, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r := newRecorder()
	b.Start(r)
	mustSubscribe(t, b, namespace("ns"))
	for _, name := range names {
		keep(t, b, name, "namespace "+name, "")
		r.awaitMessage(t, "namespace "+name)
	}
	b.Unsubscribe(namespace("ns"))
	mustSubscribe(t, b, topic(names[0]), topic("ns.not.stored.here"))
	keep(t, b, names[1], "unheard", "")
	keep(t, b, names[0], "heard", "")
	r.awaitMessage(t, "heard")
	for i, e := range r.all() {
		want := names[min(i, len(names))%len(names)]
		if e.topic != want || e.data == "unheard" {
			t.Errorf("event %d: %+v, want topic %s", i, e, want)
		}
	}
	if page := mustRead(t, b, topics.Query{Namespace: "ns"}); len(page.Messages) != len(names)+2 {
		t.Errorf("read %+v", page)
	}
}

// TestOpenDuringElection opens a Bus while nobody of a cluster answers for
// JetStream, which is for longer than an unreachable server would be waited for.
func TestOpenDuringElection(t *testing.T) {
	s := natstest.Start(t, natstest.Config("cluster { name: c, listen: '127.0.0.1:-1' }"))
	cfg := Config{URLs: []string{s.URL()}, ConnectTimeout: 50 * time.Millisecond, Streams: map[string]StreamConfig{"ns": {Age: time.Hour}}}
	histories, err := newHistories(Config{Prefix: "push", Streams: cfg.Streams})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{"config": histories["ns"].wanted()})
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	nc := client(t, s.URL())
	if _, err := nc.Subscribe("$JS.API.STREAM.INFO.push_ns", func(m *nats.Msg) {
		answer := raw
		if asked.Add(1) < 3 {
			answer = []byte(`{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`)
			time.Sleep(cfg.ConnectTimeout)
		}
		if err := m.Respond(answer); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	logged := openClose(t, cfg)
	if n := strings.Count(logged, "waiting"); n != 1 || asked.Load() != 3 {
		t.Errorf("asked %d times, want 3; said %d times that it waits, want once: %s", asked.Load(), n, logged)
	}
}
