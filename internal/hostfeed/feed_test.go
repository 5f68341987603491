package hostfeed

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/pushd/pushd/topics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// twoSecondsLater is the time between testdata/before and testdata/after.
const twoSecondsLater = 2 * time.Second

// capturedMachine returns a machine whose /proc is a copy of testdata/before.
func capturedMachine(t *testing.T) machine {
	t.Helper()
	m := machine{host: "node1.example", proc: t.TempDir(), sys: "testdata/sys", root: "/"}
	copyTree(t, m.proc, "testdata/before")
	return m
}

// copyTree copies the files below from over those below to.
func copyTree(t *testing.T, to, from string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func mustFeed(t *testing.T, m machine, log io.Writer) *Feed {
	t.Helper()
	publish := func(topic string, _ []byte) { t.Errorf("%s was published without Run", topic) }
	f, err := newFeed(m, time.Hour, publish, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// measured returns what the feed publishes as of now, by topic.
func measured(t *testing.T, f *Feed, now time.Time) map[string]any {
	t.Helper()
	got := map[string]any{}
	f.measure(now, func(topic string, payload []byte) {
		var v map[string]any
		if err := json.Unmarshal(payload, &v); err != nil {
			t.Errorf("%s: %v in %s", topic, err, payload)
		}
		if _, twice := got[topic]; twice {
			t.Errorf("%s was published twice", topic)
		}
		got[topic] = v
	})
	return got
}

func TestCapturedMachine(t *testing.T) {
	m := capturedMachine(t)
	var log bytes.Buffer
	f := mustFeed(t, m, &log)

	// The measurement before, at a time that is known.
	start := time.UnixMilli(1_732_212_345_000)
	measured(t, f, start)
	copyTree(t, m.proc, "testdata/after")
	got := measured(t, f, start.Add(twoSecondsLater))

	const now = float64(1_732_212_347_000)
	disk := got["host.node1-example.disk"].(map[string]any)
	root := disk["root"].(map[string]any)
	if total, used := root["total_bytes"].(float64), root["used_bytes"].(float64); used <= 0 || used > total {
		t.Errorf("the root file system uses %v of %v bytes", used, total)
	}
	delete(disk, "root") // it is this machine's

	want := map[string]any{
		"host.node1-example.cpu": map[string]any{
			"time": now, "busy_percent": 55., "iowait_percent": 2.5,
			"core_busy_percent": []any{85., 25.},
		},
		"host.node1-example.memory": map[string]any{
			"time": now, "total_bytes": 24684096. * 1024, "available_bytes": 20684096. * 1024, "used_bytes": 4000000. * 1024,
			"swap_total_bytes": 2097152. * 1024, "swap_used_bytes": 1024. * 1024,
		},
		"host.node1-example.load": map[string]any{
			"time": now, "load_1m": 2.72, "load_5m": 1.04, "load_15m": 0.41,
			"running_processes": 3., "total_processes": 2., "uptime_seconds": 12347.,
		},
		"host.node1-example.network": map[string]any{
			"time":                      now,
			"received_bytes_per_second": 1500., "sent_bytes_per_second": 1250.5,
			"received_packets_per_second": 15., "sent_packets_per_second": 1.5,
			"interfaces": map[string]any{
				"eth0": map[string]any{
					"received_bytes_per_second": 1500., "sent_bytes_per_second": 750.5,
					"received_packets_per_second": 15., "sent_packets_per_second": 1.5,
				},
				"wlan0": map[string]any{
					"received_bytes_per_second": 0., "sent_bytes_per_second": 500.,
					"received_packets_per_second": 0., "sent_packets_per_second": 0.,
				},
			},
		},
		"host.node1-example.disk": map[string]any{
			"time":                  now,
			"read_bytes_per_second": 40960., "written_bytes_per_second": 12288.,
			"reads_per_second": 5., "writes_per_second": 3.,
			"devices": map[string]any{
				"vda": map[string]any{
					"read_bytes_per_second": 40960., "written_bytes_per_second": 10240.,
					"reads_per_second": 5., "writes_per_second": 2.5,
				},
				"nvme0n1": map[string]any{
					"read_bytes_per_second": 0., "written_bytes_per_second": 2048.,
					"reads_per_second": 0., "writes_per_second": 0.5,
				},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what was published differs (-want +got):\n%s", diff)
	}
	if log.Len() > 0 {
		t.Errorf("a machine that tells everything was logged: %s", &log)
	}
}

func TestRatesAreOfRealTime(t *testing.T) {
	m := capturedMachine(t)
	f := mustFeed(t, m, t.Output())
	start := time.Now()
	measured(t, f, start)
	copyTree(t, m.proc, "testdata/after")
	late := measured(t, f, start.Add(2*twoSecondsLater))["host.node1-example.network"].(map[string]any)
	if got := late["received_bytes_per_second"]; got != 750. {
		t.Errorf("3000 bytes in 4 s are %v bytes/s, want 750", got)
	}
}

func TestMissingFiles(t *testing.T) {
	for _, tt := range []struct {
		file    string // what is not there
		without string // the metric that is left out
	}{
		{"stat", "cpu load"},
		{"meminfo", "memory"},
		{"loadavg", "load"},
		{"net/dev", "network"},
		{"diskstats", ""}, // the root file system is still told
	} {
		t.Run(tt.file, func(t *testing.T) {
			m := capturedMachine(t)
			if err := os.Remove(filepath.Join(m.proc, tt.file)); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			f := mustFeed(t, m, &log)
			var got map[string]any
			for range 3 {
				got = measured(t, f, time.Now())
			}
			logged := 0
			for _, metric := range []string{"cpu", "memory", "load", "network", "disk"} {
				_, told := got["host.node1-example."+metric]
				if missing := strings.Contains(" "+tt.without+" ", " "+metric+" "); told == missing {
					t.Errorf("%s published: %v, want %v", metric, told, !missing)
				}
				n := strings.Count(log.String(), "metric="+metric+" ")
				if n > 1 {
					t.Errorf("the lack of %s was logged %d times, want once", metric, n)
				}
				logged += n
			}
			if want := max(1, len(strings.Fields(tt.without))); logged != want || !strings.Contains(log.String(), tt.file) {
				t.Errorf("%d metrics were logged, want %d, with the name of %s:\n%s", logged, want, tt.file, &log)
			}
		})
	}
}

func TestFileThatComesLater(t *testing.T) {
	m := capturedMachine(t)
	if err := os.Remove(filepath.Join(m.proc, "net/dev")); err != nil {
		t.Fatal(err)
	}
	f := mustFeed(t, m, io.Discard)
	copyTree(t, m.proc, "testdata/before")
	start := time.Now()
	if got, ok := measured(t, f, start)["host.node1-example.network"]; ok {
		t.Errorf("rates were reckoned from a single measurement: %v", got)
	}
	if _, ok := measured(t, f, start.Add(time.Second))["host.node1-example.network"]; !ok {
		t.Error("no rates although there are two measurements")
	}
}

func TestWithoutSysfs(t *testing.T) {
	m := capturedMachine(t)
	m.sys = filepath.Join(t.TempDir(), "none")
	f := mustFeed(t, m, io.Discard)
	disk, ok := measured(t, f, time.Now())["host.node1-example.disk"].(map[string]any)
	if !ok || disk["root"] == nil || disk["read_bytes_per_second"] != nil {
		t.Errorf("disk = %v, want the root file system and no rates", disk)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(0, nil); err == nil || !strings.Contains(err.Error(), "interval") {
		t.Errorf("New with interval 0 = %v, want an error that names the interval", err)
	}
	none := filepath.Join(t.TempDir(), "none")
	if _, err := newFeed(machine{proc: none}, time.Second, nil, nil); err == nil || !strings.Contains(err.Error(), none) {
		t.Errorf("a feed without procfs = %v, want an error that names its mount point", err)
	}
}

// TestThisMachine runs a feed of the real /proc until it published twice.
func TestThisMachine(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	type message struct {
		topic   string
		payload []byte
	}
	messages := make(chan message)
	f, err := New(20*time.Millisecond, func(topic string, payload []byte) {
		select {
		case messages <- message{topic, payload}:
		case <-ctx.Done():
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()

	seen := map[string]int{}
	var last int64
	for seen["memory"] < 2 || seen["cpu"] < 2 {
		select {
		case m := <-messages:
			if err := topics.CheckTopic(m.topic); err != nil {
				t.Fatal(err)
			}
			var v struct{ Time int64 }
			if err := json.Unmarshal(m.payload, &v); err != nil || v.Time < last {
				t.Fatalf("%s: %s after time %d (%v)", m.topic, m.payload, last, err)
			}
			last = v.Time
			seen[m.topic[strings.LastIndexByte(m.topic, '.')+1:]]++
		case <-ctx.Done():
			t.Fatalf("published so far: %v, want memory and cpu twice", seen)
		}
	}
	cancel()
	<-done
}

func TestTopicToken(t *testing.T) {
	f := func(host, want string) {
		t.Helper()
		if got := topicToken(host); got != want {
			t.Errorf("topicToken(%q) = %q, want %q", host, got, want)
		}
	}
	f("node1", "node1")
	f("Node_1-a", "Node_1-a")
	f("node1.example.com", "node1-example-com")
	f("my host>*", "my-host--")
	f("bücher", "b-cher")
	f("", "unnamed")
}

func BenchmarkMeasure(b *testing.B) {
	f, err := New(time.Hour, nil)
	if err != nil {
		b.Skip(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		f.measure(time.Now(), func(string, []byte) {})
	}
}
