package server

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/browsertest"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
)

// A browser's own EventSource, of a page of another origin, comes back by itself
// after a restart of the server, and has missed nothing.
func TestEventSource(t *testing.T) {
	t.Parallel()
	nats := natstest.Start(t, natstest.Store(t.TempDir()))
	listener, err := net.Listen("tcp", "127.0.0.1:0") // the port has to be the same after the restart
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><script>
			const got = [], told = [];
			let opened = 0;
			const source = new EventSource("http://%s/sse?topic=orders.*");
			source.onopen = () => opened++;
			source.onmessage = (event) => got.push(JSON.parse(event.data).data);
			for (const type of ["welcome", "subscribed", "gap", "close"])
				source.addEventListener(type, (event) => told.push(JSON.parse(event.data)));
		</script>`, address)
	}))
	defer page.Close()
	serve := func() *running {
		return start(t, keeping("orders"), func(c *config.Config) {
			c.Listen, c.NATS, c.NATSListen = address, []string{nats.URL()}, ""
			c.AllowOrigin = []string{page.URL}
			c.ShutdownTimeout = 2 * time.Second
		})
	}
	r := serve()
	tab := browsertest.Start(t).Open(page.URL)
	tab.Want(`opened === 1 && told.at(-1).type === "subscribed"`)
	var want []string
	publish := func(n int) {
		for range n {
			want = append(want, fmt.Sprint(len(want)))
			r.store("orders.eu", want[len(want)-1])
		}
	}
	publish(3)
	tab.Want(`got.join() === "` + strings.Join(want, ",") + `"`)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	tab.Want(`told.at(-1).type === "close" && told.at(-1).code === 1001`)
	r = serve()
	publish(5) // before the page is back, most likely, and behind what it had
	tab.Want(`opened === 2 && told.at(-1).recovered === true`)
	publish(2)
	tab.Want(`got.join() === "` + strings.Join(want, ",") + `"`)
	tab.Want(`told.every((event) => event.type !== "gap")`)
}
