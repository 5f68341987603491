package config

import (
	"strings"
	"testing"
)

// Every mistake has a place, a key and a sentence. A test without "want" is one
// that must be accepted.
func TestFileMistakes(t *testing.T) {
	for _, test := range []struct {
		name string
		file string
		want string
	}{
		{"empty", "", ""},
		{"comments alone", "# nothing\n", ""},
		{"empty mappings", "namespaces:\ndefault:\nnats: []\n", ""},

		{"unknown key", "\nheartbeet: 25s", `pushd.yaml:2:1: unknown key "heartbeet", the nearest known is "heartbeat"`},
		{"underscores", "max_message: 1KiB", `pushd.yaml:1:1: unknown key "max_message", the nearest known is "max-message"`},
		{"unknown word", "namespace: {}", `pushd.yaml:1:1: unknown key "namespace", the nearest known is "namespaces"`},
		{"a file in a file", "config: other.yaml", `pushd.yaml:1:1: unknown key "config", the nearest known is "prefix"`},
		{"a flag of another command", "check: x", `pushd.yaml:1:1: unknown key "check", the nearest known is "demo"`},
		{"in a namespace", "namespaces:\n  chat:\n    delivry: live",
			`pushd.yaml:3:5: unknown key "delivry" in namespaces.chat, the nearest known is "delivery"`},
		{"in a namespace, flow style", "namespaces: {chat: {intrest: topic}}",
			`pushd.yaml:1:21: unknown key "intrest" in namespaces.chat, the nearest known is "interest"`},
		{"in default", "default: {historie: none}", `pushd.yaml:1:11: unknown key "historie" in default, the nearest known is "history"`},
		{"in a history", "default:\n  history: {ages: 1h}",
			`pushd.yaml:2:13: unknown key "ages" in default.history, the nearest known is "age"`},
		{"merge key", "<<: {demo: true}", `pushd.yaml:1:1: unknown key "<<", the nearest known is "demo"`},

		{"no duration", "heartbeat: 25", `pushd.yaml:1:12: heartbeat: expected duration but got "25": time: missing unit in duration "25"`},
		{"no size", "max-message: big", `pushd.yaml:1:14: max-message: "big" is no size: write a number of bytes or, for instance, 64KiB`},
		{"no number", "shards: two", `pushd.yaml:1:9: shards: expected a valid 64 bit int but got "two"`},
		{"no truth", "demo: perhaps", `pushd.yaml:1:7: demo: bool value must be true, 1, yes, false, 0 or no but got "perhaps"`},
		{"no value", "listen:\nopen: true", `pushd.yaml:1:8: listen: has no value: give one, or remove the line`},
		{"a list for one", "listen: [a, b]", `pushd.yaml:1:9: listen: must be one value and no list`},
		{"a mapping for one", "listen: {port: 1}", `pushd.yaml:1:9: listen: must be a plain value and no mapping`},
		{"a list of lists", "nats: [[a]]", `pushd.yaml:1:7: nats: must be a list of plain values`},
		{"an alias", "listen: &a localhost:1\nadmin: *a",
			"pushd.yaml:1:9: listen: anchors, aliases and tags are not understood here: write the value out\n" +
				"pushd.yaml:2:8: admin: anchors, aliases and tags are not understood here: write the value out"},
		{"one value for a mapping", "namespaces: chat", `pushd.yaml:1:13: namespaces: must be a mapping of keys to values`},
		{"one value for a namespace", "namespaces:\n  chat: live", `pushd.yaml:2:9: namespaces.chat: must be a mapping of keys to values`},
		{"no mapping at all", "- listen", `pushd.yaml:1:1: must be a mapping of keys to values`},
		{"another word for none", "default: {history: off}",
			`pushd.yaml:1:20: default.history: must be none, or a mapping with age, bytes or messages`},
		{"a history of nothing", "default: {history: {}}",
			`pushd.yaml:1:20: default.history: keeps nothing as it stands: give age, bytes or messages more than 0, or write none`},
		{"twice", "demo: true\ndemo: false", `pushd.yaml:2:1: mapping key "demo" already defined at [1:1]`},
		{"no YAML", "listen: [a,", `pushd.yaml:1:9: sequence end token ']' not found`},
		{"two documents", "demo: true\n---\nopen: true", `pushd.yaml:3:1: a second document: the settings belong into one`},
		{"several", "lisen: x\nshards: two\n",
			"pushd.yaml:1:1: unknown key \"lisen\", the nearest known is \"listen\"\n" +
				"pushd.yaml:2:9: shards: expected a valid 64 bit int but got \"two\""},

		{"history", "namespaces:\n  scores:\n    delivery: all\n    history: {age: 24h, bytes: 1GiB, messages: 10000, replicas: 1}", ""},
		{"latest alone", "namespaces: {stocks: {delivery: latest}}", ""},
		{"a stream of somebody's", "namespaces: {orders: {delivery: all, stream: ORDERS, subject: orders, history: none}}", ""},
		{"latest without history", "namespaces:\n  stocks: {delivery: latest, history: none}",
			`pushd.yaml:2:22: namespaces.stocks.delivery is "latest", which needs history: give for instance history: {age: 24h}, or stream:`},
		{"all without history", "namespaces:\n  stocks: {delivery: all}",
			`pushd.yaml:2:22: namespaces.stocks.delivery is "all", which needs history: give for instance history: {age: 24h}, or stream:`},
		{"unnamed, latest", "default: {delivery: latest}",
			`pushd.yaml:1:21: default.delivery is "latest", which needs history, and a stream is made for a namespace by its name: list those that keep history under namespaces:`},
		{"unnamed, history in block style", "default:\n  history:\n    messages: 1",
			`pushd.yaml:3:5: default.history is set, but a stream is made for a namespace by its name: list those that keep history under namespaces:`},
		{"no bound", "namespaces:\n  scores:\n    history: {replicas: 1, storage: file}",
			`pushd.yaml:3:14: namespaces.scores.history would keep everything for ever: give age, bytes or messages`},
		{"too short", "namespaces: {scores: {history: {age: 1ms}}}",
			`pushd.yaml:1:38: namespaces.scores.history.age is 1ms, but must be 1s to 87600h0m0s`},

		{"out of bounds", "heartbeat: 100ms", `pushd.yaml:1:12: --heartbeat is 100ms, but must be 1s to 1h0m0s`},
		{"too long a delay", "namespaces:\n  ticks: {batch_delay: 1001ms}",
			`pushd.yaml:2:24: namespaces.ticks.batch_delay is 1.001s, but must be 0s to 1s`},
		{"too large a message for a namespace", "namespaces:\n  ticks: {max_message: 65KiB}",
			`pushd.yaml:2:24: namespaces.ticks.max_message is 65KiB, but no message may be larger than --max-message 64KiB`},
		{"no rate at all", "namespaces:\n  ticks: {max_rate: -1}",
			`pushd.yaml:2:21: namespaces.ticks.max_rate is -1, but must be 0 (no limit) to 1000 updates a second`},
		{"a delay without a unit", "namespaces:\n  ticks: {batch_delay: 20}",
			`pushd.yaml:2:24: namespaces.ticks.batch_delay: expected duration but got "20": time: missing unit in duration "20"`},
		{"a delay with a hyphen", "default: {batch-delay: 20ms}",
			`pushd.yaml:1:11: unknown key "batch-delay" in default, the nearest known is "batch_delay"`},
		{"a delay for all", "batch_delay: 20ms", `pushd.yaml:1:1: unknown key "batch_delay", the nearest known is "nats-key"`},
		{"no such delivery", "default: {delivery: newest}",
			`pushd.yaml:1:21: default.delivery is "newest", but must be live, latest or all`},
		{"no such poller", "poller: kqueue", `pushd.yaml:1:9: --poller is "kqueue", but must be epoll or easygo`},
		{"no namespace", "namespaces: {a.b: {}}",
			`pushd.yaml:1:14: "a.b" under namespaces: is no namespace: it must be one token of A-Z a-z 0-9 _ -`},
		{"beyond loopback", "listen: :8080",
			`pushd.yaml:1:9: --listen :8080 can be reached from beyond this machine, without authentication: use 127.0.0.1, give --token-secret-file, --token-key, --jwks-url, --tls-client-ca or api_keys:, or add --open if that is meant`},
		{"beyond loopback, meant", "listen: :8080\nopen: true", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			writeFile(t, test.file)
			got := ""
			if err := Check("pushd.yaml"); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("%s\ngot  %s\nwant %s", test.file, got, test.want)
			}
		})
	}
}

// A wrong value is wrong, whether or not something stronger overrides it; one
// that is merely out of bounds is not looked at.
func TestFileOverridden(t *testing.T) {
	writeFile(t, "heartbeat: soon\nshards: 1000\n")
	_, _, err := load(t, "--config=pushd.yaml", "--heartbeat=30s", "--shards=1")
	want := `pushd.yaml:1:12: heartbeat: expected duration but got "soon": time: invalid duration "soon"`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestEnvironment(t *testing.T) {
	for _, test := range []struct {
		name  string
		set   string
		value string
		want  string
	}{
		{"unknown", "PUSHD_HEARTBEET", "25s", "environment: unknown variable PUSHD_HEARTBEET, the nearest known is PUSHD_HEARTBEAT"},
		{"a port by itself", "PUSHD_PORT", "8080", "environment: unknown variable PUSHD_PORT, the nearest known is PUSHD_STORE"},
		{"wrong value", "PUSHD_HEARTBEAT", "soon", `--heartbeat: expected duration but got "soon": time: invalid duration "soon" (from envar PUSHD_HEARTBEAT="soon")`},
		{"out of bounds", "PUSHD_HEARTBEAT", "2h", "env PUSHD_HEARTBEAT: --heartbeat is 2h0m0s, but must be 1s to 1h0m0s"},
		{"other programs", "PUSHDOWN_HEARTBEET", "25s", ""},

		// From a Kubernetes Service named pushd, or pushd-nats.
		{"service host", "PUSHD_SERVICE_HOST", "10.0.0.1", ""},
		{"service port", "PUSHD_SERVICE_PORT", "80", ""},
		{"service port by name", "PUSHD_SERVICE_PORT_HTTP", "80", ""},
		{"port", "PUSHD_PORT", "tcp://10.0.0.1:80", ""},
		{"port by number", "PUSHD_PORT_80_TCP", "tcp://10.0.0.1:80", ""},
		{"port by number, address", "PUSHD_PORT_80_TCP_ADDR", "10.0.0.1", ""},
		{"another service", "PUSHD_NATS_PORT_4222_TCP_PROTO", "tcp", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv(test.set, test.value)
			got := ""
			if _, _, err := load(t); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// Whatever a file holds, reading it ends in settings or in mistakes that have
// a place, never in a panic.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"", "listen: x", "namespaces: {a: {history: {age: 1h}}}", "? a\n: b", "- - -", "a: &a [*a]", "default:\n  - x", "!!map {}", "nats:\n- a\n- b: c",
		"history: |\n  x", "\"\\u0000\": 1", "{[a]: b}", "---\n---\n", "null", "~: ~", "<<: 1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := Default()
		reader := file{path: "f", sources: Sources{}}
		for _, err := range reader.parse(&c, []byte(text)) {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Errorf("no place: %v", err)
			}
		}
	})
}
