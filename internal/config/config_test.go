package config

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	for _, entry := range os.Environ() { // the settings of whoever runs the tests are none of theirs
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, envPrefix) {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	goleak.VerifyTestMain(m)
}

// load parses a command line the way the program does.
func load(t *testing.T, args ...string) (Config, Sources, error) {
	t.Helper()
	var flags Flags
	parser, err := kong.New(&flags, kong.Name("pushd"), kong.Writers(io.Discard, io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return Config{}, nil, err
	}
	return Load(parsed, &flags)
}

// writeFile puts a configuration where the test runs, so that messages name it
// by its bare name.
func writeFile(t *testing.T, text string) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("pushd.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDefault(t *testing.T) {
	t.Setenv("PUSHD_LISTEN", "10.0.0.1:1") // no part of Default
	want := Config{
		Listen:           "127.0.0.1:8080",
		Admin:            "127.0.0.1:8081",
		NATSListen:       "127.0.0.1:4222",
		Store:            "./pushd-data",
		Prefix:           "push",
		MaxHandshakes:    512,
		TokenLeeway:      5 * time.Second,
		AuthTimeout:      5 * time.Second,
		AuthorizeTimeout: 2 * time.Second,
		MaxMessage:       64 << 10,
		MaxSubscriptions: 1024,
		HandshakeTimeout: 5 * time.Second,
		Heartbeat:        25 * time.Second,
		WriteTimeout:     time.Minute,
		ShutdownTimeout:  10 * time.Second,
		DrainWindow:      30 * time.Second,

		ConnectionRatePerAddress: 50,
		HandshakeRate:            5000,
		Unlimited:                []string{"127.0.0.0/8", "::1/128"},
		MaxByteRate:              1 << 20,
		MaxCommandRate:           100,
		MaxPublishRate:           100,

		Compression:        On,
		CompressionMinSize: 512,
		CompressionLevel:   5,

		Workers:        4,
		Poller:         "epoll",
		Send:           "auto",
		RingMessages:   16384,
		PresenceTopics: 200_000,
		ReceiveMemory:  64 << 20,
		PollMemory:     64 << 20,
		RingMemory:     64 << 20,
		LogLevel:       "info",
		LogFormat:      "text",
		TraceRatio:     0.001,
		TraceLimit:     100,
		Default:        Namespace{Delivery: DeliveryLive, Interest: InterestNamespace, Public: PublicNone, Compression: On},
	}
	got := Default()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Default (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the defaults do not validate: %v", err)
	}
}

// Each definition is complete, and its names follow one rule.
func TestDefinition(t *testing.T) {
	for _, s := range settings(new(Config)) {
		if want := envPrefix + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_")); len(s.Envs) != 1 || s.Envs[0] != want {
			t.Errorf("--%s has variables %q, want %s", s.Name, s.Envs, want)
		}
		if !strings.HasSuffix(s.Help, ".") {
			t.Errorf("--%s: the help is no sentence: %q", s.Name, s.Help)
		}
		if s.Group == nil {
			t.Errorf("--%s stands in no group of the help", s.Name)
		}
	}
}

// A flag is stronger than the environment, which is stronger than the file,
// which is stronger than the default. kong by itself would let the file win
// over the environment.
func TestPrecedence(t *testing.T) {
	const name, env = "heartbeat", "PUSHD_HEARTBEAT"
	for _, test := range []struct {
		name   string
		flag   string
		env    string
		file   string
		want   time.Duration
		source string
	}{
		{name: "default", want: 25 * time.Second, source: "default"},
		{name: "file", file: "heartbeat: 11s", want: 11 * time.Second, source: "pushd.yaml:1:12"},
		{name: "environment", env: "12s", want: 12 * time.Second, source: "env PUSHD_HEARTBEAT"},
		{name: "flag", flag: "13s", want: 13 * time.Second, source: "flag --heartbeat"},
		{name: "environment over file", env: "12s", file: "heartbeat: 11s", want: 12 * time.Second, source: "env PUSHD_HEARTBEAT"},
		{name: "flag over file", flag: "13s", file: "heartbeat: 11s", want: 13 * time.Second, source: "flag --heartbeat"},
		{name: "flag over environment", flag: "13s", env: "12s", want: 13 * time.Second, source: "flag --heartbeat"},
		{name: "flag over both", flag: "13s", env: "12s", file: "heartbeat: 11s", want: 13 * time.Second, source: "flag --heartbeat"},
		{name: "environment that says the default", env: "25s", file: "heartbeat: 11s", want: 25 * time.Second, source: "env PUSHD_HEARTBEAT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			writeFile(t, test.file)
			args := []string{"--config=pushd.yaml"}
			if test.flag != "" {
				args = append(args, "--"+name, test.flag)
			}
			if test.env != "" {
				t.Setenv(env, test.env)
			}
			c, sources, err := load(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			if c.Heartbeat != test.want || sources.of(name) != test.source {
				t.Errorf("heartbeat is %v from %q, want %v from %q", c.Heartbeat, sources.of(name), test.want, test.source)
			}
		})
	}
}

func TestFile(t *testing.T) {
	writeFile(t, `
# every kind of value
listen: "127.0.0.1:0"
nats: [nats://a:4222, 'tls://b:4222']
max-message: 32KiB
max-connections: 1_000
write-timeout: 90s
demo: true
log-format: json
namespaces:
  stocks: {interest: topic}
  chat:
    delivery: live
    history: none
    batch_delay: 20ms
  "007":
  scores:
    delivery: all
    history: {age: 24h, bytes: 1GiB, messages: 10_000, replicas: 1, storage: memory}
  quotes: {delivery: latest}
  orders: {delivery: latest, stream: ORDERS, subject: shop.orders}
default: {interest: topic, history: none}
`)
	want := Default()
	want.File = "pushd.yaml"
	want.Listen = "127.0.0.1:0"
	want.NATS = []string{"nats://a:4222", "tls://b:4222"}
	want.MaxMessage = 32 << 10
	want.MaxConnections = 1000
	want.WriteTimeout = 90 * time.Second
	want.Demo = true
	want.LogFormat = "json"
	want.Default.Interest = InterestTopic
	want.Namespaces = map[string]Namespace{
		"stocks": {Delivery: DeliveryLive, Interest: InterestTopic, Public: PublicNone, Compression: On},
		"chat":   {Delivery: DeliveryLive, Interest: InterestNamespace, Public: PublicNone, Compression: On, BatchDelay: 20 * time.Millisecond},
		"007":    {Delivery: DeliveryLive, Interest: InterestNamespace, Public: PublicNone, Compression: On}, // not what default: says
		"scores": {Delivery: DeliveryAll, Interest: InterestNamespace, Public: PublicNone, Compression: On, History: History{Age: 24 * time.Hour, Bytes: 1 << 30, Messages: 10000, Replicas: 1, Storage: StorageMemory}},
		"quotes": {Delivery: DeliveryLatest, Interest: InterestNamespace, Public: PublicNone, Compression: On, History: History{Messages: 1}}, // all that it takes
		"orders": {Delivery: DeliveryLatest, Interest: InterestNamespace, Public: PublicNone, Compression: On, Stream: "ORDERS", Subject: "shop.orders"},
	}
	got, sources, err := load(t, "--config=pushd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for key, want := range map[string]string{
		"config":                       "flag --config",
		"listen":                       "pushd.yaml:3:9",
		"nats":                         "pushd.yaml:4:7",
		"admin":                        "default",
		"namespaces.stocks.interest":   "pushd.yaml:11:22",
		"namespaces.stocks.delivery":   "default",
		"namespaces.chat.history":      "pushd.yaml:14:14",
		"namespaces.chat.batch_delay":  "pushd.yaml:15:18",
		"default.interest":             "pushd.yaml:22:21",
		"namespaces.elsewhere.history": "default",
	} {
		if got := sources.of(key); got != want {
			t.Errorf("%s came from %q, want %q", key, got, want)
		}
	}
	if got.Namespace("chat") != want.Namespaces["chat"] || got.Namespace("elsewhere") != want.Default {
		t.Error("Namespace does not tell the named from the others")
	}
}

// A list in the file replaces, and does not extend, what was there.
func TestListOverridden(t *testing.T) {
	writeFile(t, "nats: nats://file:1,nats://file:2")
	t.Setenv("PUSHD_NATS", "nats://env:1,nats://env:2")
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"--config=pushd.yaml"}, []string{"nats://env:1", "nats://env:2"}},
		{[]string{"--config=pushd.yaml", "--nats=nats://flag:1", "--nats=nats://flag:2"}, []string{"nats://flag:1", "nats://flag:2"}},
	} {
		c, _, err := load(t, test.args...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, c.NATS); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.args, diff)
		}
	}
}

// What Write prints, read as a file, sets the same.
func TestWriteRoundTrip(t *testing.T) {
	odd := Default()
	odd.NATS = []string{"nats://user:p, w@a:4222", "b:4222"}
	odd.Store = "a directory: with # odd \"characters\"\tand\nlines"
	odd.NATSCreds = "null"
	odd.Prefix = "007"
	odd.Heartbeat = 1500 * time.Millisecond
	odd.MaxMessage = 65537
	odd.Open = true
	odd.TokenKeys = []string{"a, b.pem", "# c"}
	odd.APIKeys = []APIKey{{Name: "yes: no", Hash: "sha256:00", Subscribe: []string{">"}, Publish: []string{"a.*", "b.>"}}, {Name: "2"}}
	odd.ClientCertificates = &Permissions{Publish: []string{"*.x"}}
	odd.Namespaces = map[string]Namespace{
		"true": {Delivery: DeliveryAll, Interest: InterestTopic, Public: PublicNone, Compression: On, Subject: "null", History: History{Age: time.Hour, Bytes: 1 << 30, Messages: 5, Replicas: 3, Storage: StorageFile}},
		"0":    {Delivery: DeliveryLatest, Interest: InterestNamespace, Public: PublicNone, Compression: On, Stream: "on", Subject: "# not a comment"},
		"-":    {Delivery: DeliveryLive, Interest: InterestNamespace, Public: PublicAll, Compression: Off, BatchDelay: 2500 * time.Microsecond},
	}
	for name, c := range map[string]Config{"default": Default(), "odd": odd} {
		t.Run(name, func(t *testing.T) {
			var text strings.Builder
			if err := Write(&text, &c, Sources{}); err != nil {
				t.Fatal(err)
			}
			writeFile(t, text.String())
			got := Default()
			if err := (&file{path: "pushd.yaml", sources: Sources{}}).read(&got); err != nil {
				t.Fatalf("%v\n%s", err, &text)
			}
			if diff := cmp.Diff(c, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, &text)
			}
		})
	}
}

func TestWrite(t *testing.T) {
	writeFile(t, "max-message: 32KiB\nnamespaces: {user: {interest: topic}, stocks: {delivery: latest}, orders: {stream: ORDERS}}\n")
	t.Setenv("PUSHD_LOG_LEVEL", "warn")
	c, sources, err := load(t, "--config=pushd.yaml", "--nats", "nats://a,nats://b")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := Write(&text, &c, sources); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# config: pushd.yaml # flag --config",
		"listen: 127.0.0.1:8080 # default",
		`nats: ["nats://a","nats://b"] # flag --nats`,
		`nats-creds: "" # default`,
		"max-message: 32KiB # pushd.yaml:1:14",
		"heartbeat: 25s # default",
		"log-level: warn # env PUSHD_LOG_LEVEL",
		"default:",
		"namespaces:",
		"user:",
		"interest: topic # pushd.yaml:2:31",
		"batch_delay: 0s # default",
		"history: none # default",
		"subject: push.stocks # default",
		"messages: 1 # default",
		"replicas: 1 # default",
		"storage: file # default",
		"stream: ORDERS # pushd.yaml:2:84",
		"subject: push.orders # default",
	} {
		if !strings.Contains(squeeze(text.String()), "\n"+want+"\n") {
			t.Errorf("no line %q in\n%s", want, &text)
		}
	}
}

// squeeze leaves one space of each run, and none at the start of a line.
func squeeze(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return "\n" + strings.Join(lines, "\n")
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "65536": 65536, "64KiB": 64 << 10, "64KB": 64000, "64kB": 64000, "5B": 5, "1.5GiB": 3 << 29, "1GiB1KiB": 1<<30 + 1<<10,
	} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%q is %d, %v; want %d", text, int64(b), err, int64(want))
		}
		var again Bytes
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b {
			t.Errorf("%q prints as %q, which is %d, %v", text, b, int64(again), err)
		}
	}
	for _, text := range []string{"", "x", "64 KiB", "64k", "-1", "-5KiB", "9999999999999GiB"} {
		b := Bytes(7)
		if err := b.UnmarshalText([]byte(text)); err == nil || b != 7 {
			t.Errorf("%q is %d, %v; want an error and no change", text, int64(b), err)
		}
	}
}

func TestFileMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	want := "--config: open " + path + ": no such file or directory"
	if err := Check(path); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
