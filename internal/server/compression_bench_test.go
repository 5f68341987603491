package server

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

// cpu is the processor time that pushd has used, in microseconds.
func (b *shipped) cpu() float64 {
	b.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	if err1 != nil || err2 != nil {
		b.t.Fatal(err1, err2)
	}
	return (user + system) * 10_000 // of 100 ticks a second
}

// sentBytes is what pushd has sent to clients.
func (b *shipped) sentBytes() float64 {
	for line := range strings.Lines(b.get("/metrics")) {
		if value, ok := strings.CutPrefix(line, "pushd_sent_bytes_total "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				b.t.Fatal(err)
			}
			return n
		}
	}
	b.t.Fatal("no pushd_sent_bytes_total")
	return 0
}

// quotes is JSON of about size bytes as it is pushed, with as much chance in it.
func quotes(size int) string {
	rnd := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	b.WriteString("[")
	for b.Len() < size-120 || b.Len() == 1 {
		if b.Len() > 1 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, `{"symbol":"S%03d","price":%.2f,"bid":%.2f,"ask":%.2f,"volume":%d,"time":%d}`,
			rnd.IntN(500), rnd.Float64()*500, rnd.Float64()*500, rnd.Float64()*500, rnd.IntN(100_000), 1795296445945+rnd.IntN(100_000))
	}
	return b.String() + "]"
}

// BenchmarkBroadcast sends one message at a time to many clients, with
// compression and without: what it takes the server, and what goes over the wire.
func BenchmarkBroadcast(b *testing.B) {
	for _, clients := range []int{1, 10, 1000} {
		for _, size := range []int{128, 256, 512, 1 << 10, 4 << 10, 16 << 10} {
			for _, compression := range []string{"off", "on"} {
				b.Run(fmt.Sprintf("clients=%d/size=%d/%s", clients, size, compression), func(b *testing.B) {
					s := startShipped(b, "--compression="+compression, "--compression-min-size=0", "--unlimited=127.0.0.0/8")
					dial := offering()
					for range clients {
						c, _, _, err := dial.Dial(b.Context(), "ws://"+s.addr+"/ws?topic=stocks.AAPL")
						if err != nil {
							b.Fatal(err)
						}
						defer c.Close()
						go io.Copy(io.Discard, c)
					}
					probe := s.dial("topic=stocks.AAPL")
					probe.want("welcome")
					probe.want("subscribed")
					publisher := s.subscribed()
					data := quotes(size)
					cpu, bytes := s.cpu(), s.sentBytes()
					for b.Loop() {
						publisher.send(`{"type":"publish","topic":"stocks.AAPL","data":` + data + `}`)
						publisher.want("published")
						probe.want("message")
					}
					deliveries := float64(b.N) * float64(clients)
					b.ReportMetric((s.cpu()-cpu)/float64(b.N), "server-us/message")
					b.ReportMetric((s.sentBytes()-bytes)/deliveries, "bytes/delivery")
				})
			}
		}
	}
}
