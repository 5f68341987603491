package natsbus

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestOpenEmbeddedErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(dir, "locked")
	open(t, Config{Store: locked})
	broken := filepath.Join(dir, "broken")
	if err := os.Mkdir(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()

	f := func(name string, cfg Config, want string) {
		t.Run(name, func(t *testing.T) {
			if got := openFails(t, context.Background(), cfg); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	f("port in use", Config{Listen: taken.Addr().String()},
		"NATS listen address "+taken.Addr().String()+" is in use: stop what listens there, or choose another with --nats-listen")
	f("foreign address", Config{Listen: "192.0.2.1:4222"},
		"cannot listen for NATS clients on 192.0.2.1:4222: cannot assign requested address: correct --nats-listen")
	f("no address", Config{Listen: "4222"},
		`NATS listen address "4222" is not host:port: correct --nats-listen`)
	f("store is a file", Config{Store: file},
		"store "+file+` is not a folder: choose a folder, or "memory", with --store`)
	f("store below a file", Config{Store: file + "/sub"},
		"store "+file+`/sub is not a folder: choose a folder, or "memory", with --store`)
	f("store on a system that takes no files", Config{Store: "/proc/self"},
		"cannot write to store /proc/self: no such file or directory: use a folder that this user can write, with --store")
	f("store in use", Config{Store: locked},
		"store "+locked+" is in use by another pushd (process "+strconv.Itoa(os.Getpid())+"): stop it, or choose another folder with --store")
	f("JetStream does not start", Config{Store: broken},
		"cannot start the embedded NATS server: Can't start JetStream: storage directory is not a directory: check --nats-listen and --store")
	t.Run("read-only store", func(t *testing.T) {
		if os.Getuid() == 0 {
			t.Skip("root may write anywhere")
		}
		readOnly := filepath.Join(dir, "readonly")
		if err := os.Mkdir(readOnly, 0o500); err != nil {
			t.Fatal(err)
		}
		want := "cannot write to store " + readOnly + ": permission denied: use a folder that this user can write, with --store"
		if got := openFails(t, context.Background(), Config{Store: readOnly}); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// TestStore wants a folder's streams to survive, and its lock to end with the Bus.
func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "for", "it")
	for round := range 2 {
		b, _ := open(t, Config{Store: dir, Listen: "127.0.0.1:0"})
		js, err := jetstream.New(client(t, b.ClientURL()))
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"push.kept.>"}})
		} else {
			_, err = js.Stream(t.Context(), "S")
		}
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMemoryStore takes streams in memory, and none that grow on disk.
func TestMemoryStore(t *testing.T) {
	b, _ := openEmbedded(t)
	js, err := jetstream.New(client(t, b.ClientURL()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "M", Subjects: []string{"m"}, Storage: jetstream.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "m", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "F", Subjects: []string{"f"}, Storage: jetstream.FileStorage}); err != nil {
		t.Fatal(err)
	}
	// The server looks at its usage after the fact, so the first ones pass.
	eventually(t, "a message on disk is refused", func() bool {
		_, err := js.Publish(t.Context(), "f", make([]byte, 1000))
		return err != nil
	})
}

func TestClientURL(t *testing.T) {
	if b, _ := open(t, Config{}); b.ClientURL() != "" {
		t.Errorf("without a listener: %s", b.ClientURL())
	}
	b, _ := open(t, Config{Listen: ":0"})
	if !strings.HasPrefix(b.ClientURL(), "nats://127.0.0.1:") {
		t.Errorf("on all addresses: %s", b.ClientURL())
	}
	nc := client(t, b.ClientURL(), nats.NoReconnect())
	if nc.MaxPayload() != 1<<20 {
		t.Errorf("max payload %d", nc.MaxPayload())
	}
}
