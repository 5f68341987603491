// Scale answers: what do a million, or ten million, connections cost pushd
// itself, where no machine at hand has the sockets for them?
//
// It runs the real code of one process (slab, members, feeds, heartbeat sweep,
// shards) over connections that have no socket: what is sent to them goes into
// a sink behind the send lane. What the kernel and TCP cost is not in these
// figures; docs/SCALING.md adds it up.
//
//	go run ./bench/scale -n 1000000
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"syscall"
	"time"
)

func main() {
	n := flag.Int("n", 1_000_000, "connections")
	shards := flag.Int("shards", runtime.GOMAXPROCS(0), "shards that they are spread over")
	topicCount := flag.Int("topics", 1, "topics that they are spread over, one subscription each")
	heartbeat := flag.Duration("heartbeat", 25*time.Second, "heartbeat interval, whose sweep is measured")
	flag.Parse()
	if err := run(os.Stdout, *n, *shards, *topicCount, *heartbeat); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// run fails where not everything was delivered: its figures would be worth nothing.
func run(out io.Writer, n, shardCount, topicCount int, heartbeat time.Duration) error {
	debug.SetGCPercent(400)
	s, err := newSim(shardCount, heartbeat)
	if err != nil {
		return err
	}
	defer s.close()
	heapBefore, rssBefore := memory()
	populating := measure(func() { s.populate(n, topicCount) })
	heapAfter, rssAfter := memory()

	gc := measure(runtime.GC)
	gcCPU := gcSeconds(runtime.GC)
	const broadcasts = 5
	var fanOuts []cost
	for i := range broadcasts {
		fanOuts = append(fanOuts, measure(func() { s.broadcast(topicCount, i) }))
	}
	beat := measure(s.heartbeats)
	if want := uint64(broadcasts) * uint64(n); s.delivered() != want {
		return fmt.Errorf("%d deliveries, want %d: the figures are worth nothing", s.delivered(), want)
	}
	if s.pings() < uint64(n) {
		return fmt.Errorf("%d pings for %d silent connections: the figures are worth nothing", s.pings(), n)
	}

	fmt.Fprintf(out, "%s\n%s, %d CPUs\n\n", strings.Join(os.Args, " "), runtime.Version(), runtime.NumCPU())
	fmt.Fprintf(out, "| figure | value |\n| --- | --- |\n")
	row := func(name, format string, args ...any) {
		fmt.Fprintf(out, "| %s | "+format+" |\n", append([]any{name}, args...)...)
	}
	row("connections, subscriptions, topics, shards", "%d, %d, %d, %d", n, n, topicCount, shardCount)
	row("heap", "%.1f MB, %.0f bytes each", mb(heapAfter-heapBefore), float64(heapAfter-heapBefore)/float64(n))
	row("resident memory", "%.1f MB, %.0f bytes each", mb(rssAfter-rssBefore), float64(rssAfter-rssBefore)/float64(n))
	row("connect and subscribe, CPU each", "%.0f ns", float64(populating.cpu.Nanoseconds())/float64(n))
	row("full garbage collection", "%v CPU of the collector, %v elapsed", time.Duration(gcCPU*1e9).Round(10*time.Microsecond), gc.wall.Round(10*time.Microsecond))
	best := fanOuts[0]
	for _, c := range fanOuts {
		if c.cpu < best.cpu {
			best = c
		}
	}
	row(fmt.Sprintf("one message to all, best of %d", broadcasts), "%v CPU, %v elapsed, %.1f ns each", best.cpu.Round(100*time.Microsecond), best.wall.Round(100*time.Microsecond), float64(best.cpu.Nanoseconds())/float64(n))
	row(fmt.Sprintf("heartbeats of %v, all silent", heartbeat), "%v CPU, %.2f %% of one CPU", beat.cpu.Round(100*time.Microsecond), 100*beat.cpu.Seconds()/heartbeat.Seconds())
	return nil
}

func mb(n int64) float64 { return float64(n) / 1e6 }

// cost is what something took.
type cost struct{ wall, cpu time.Duration }

func measure(f func()) cost {
	began, used := time.Now(), processCPU()
	f()
	return cost{time.Since(began), processCPU() - used}
}

func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// gcSeconds is the CPU that the garbage collector itself uses while f runs.
func gcSeconds(f func()) float64 {
	sample := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	metrics.Read(sample)
	before := sample[0].Value.Float64()
	f()
	metrics.Read(sample)
	return sample[0].Value.Float64() - before
}

// memory is the live heap and the resident memory, both after garbage was collected.
func memory() (heap, rss int64) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		panic(err)
	}
	return int64(m.HeapAlloc), resident * int64(os.Getpagesize())
}
