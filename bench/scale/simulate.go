package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"syscall"
	"time"
)

// simulated is what connections without sockets cost.
type simulated struct {
	origin
	Mode        string `json:"mode"`        // "simulated"
	Connections int    `json:"connections"` // with one subscription each
	Topics      int    `json:"topics"`
	Shards      int    `json:"shards"`

	HeapBytes                  int64   `json:"heap_bytes"`
	HeapBytesPerConnection     float64 `json:"heap_bytes_per_connection"`
	ResidentBytes              int64   `json:"resident_bytes"`
	ResidentBytesPerConnection float64 `json:"resident_bytes_per_connection"`
	ConnectCPU                 float64 `json:"connect_cpu_ns_per_connection"` // and to subscribe

	GCCPU     float64 `json:"gc_cpu_seconds"` // of one full collection
	GCElapsed float64 `json:"gc_elapsed_seconds"`

	Broadcasts           int     `json:"broadcasts"`            // messages to each topic; the best is shown
	BroadcastCPU         float64 `json:"broadcast_cpu_seconds"` // of one message to all
	BroadcastElapsed     float64 `json:"broadcast_elapsed_seconds"`
	BroadcastPerDelivery float64 `json:"broadcast_cpu_ns_per_delivery"`

	HeartbeatInterval float64 `json:"heartbeat_interval_seconds"`
	HeartbeatCPU      float64 `json:"heartbeat_cpu_seconds"` // of one interval in which all are silent
	HeartbeatPercent  float64 `json:"heartbeat_cpu_percent"` // of one CPU
}

// simulate fails where not everything was delivered: its figures would be worth nothing.
func simulate(n, shardCount, topicCount int, heartbeat time.Duration) (*simulated, error) {
	if n < 1 || shardCount < 1 || topicCount < 1 {
		return nil, fmt.Errorf("-n is %d, -shards %d and -topics %d, but each must be at least 1", n, shardCount, topicCount)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	s, err := newSim(shardCount, heartbeat)
	if err != nil {
		return nil, err
	}
	defer s.close()
	heapBefore, residentBefore := memory()
	populating := measure(func() { s.populate(n, topicCount) })
	heapAfter, residentAfter := memory()

	gc := measure(runtime.GC)
	gcCPU := gcSeconds(runtime.GC)
	const broadcasts = 5
	best := cost{cpu: time.Hour}
	for i := range broadcasts {
		if c := measure(func() { s.broadcast(topicCount, i) }); c.cpu < best.cpu {
			best = c
		}
	}
	beat := measure(s.heartbeats)
	if want := uint64(broadcasts) * uint64(n); s.delivered() != want {
		return nil, fmt.Errorf("%d deliveries, want %d: the figures are worth nothing", s.delivered(), want)
	}
	if s.pings() < uint64(n) {
		return nil, fmt.Errorf("%d pings for %d silent connections: the figures are worth nothing", s.pings(), n)
	}
	each := func(total float64) float64 { return total / float64(n) }
	return &simulated{
		origin: newOrigin(), Mode: "simulated", Connections: n, Topics: topicCount, Shards: shardCount,
		HeapBytes: heapAfter - heapBefore, HeapBytesPerConnection: each(float64(heapAfter - heapBefore)),
		ResidentBytes: residentAfter - residentBefore, ResidentBytesPerConnection: each(float64(residentAfter - residentBefore)),
		ConnectCPU: each(float64(populating.cpu)),
		GCCPU:      gcCPU, GCElapsed: gc.wall.Seconds(),
		Broadcasts: broadcasts, BroadcastCPU: best.cpu.Seconds(), BroadcastElapsed: best.wall.Seconds(), BroadcastPerDelivery: each(float64(best.cpu)),
		HeartbeatInterval: heartbeat.Seconds(), HeartbeatCPU: beat.cpu.Seconds(), HeartbeatPercent: 100 * beat.cpu.Seconds() / heartbeat.Seconds(),
	}, nil
}

func (s *simulated) rows() []row {
	return []row{
		figure("connections, subscriptions, topics, shards", "%d, %d, %d, %d", s.Connections, s.Connections, s.Topics, s.Shards),
		figure("heap", "%.1f MB, %.0f bytes each", mb(s.HeapBytes), s.HeapBytesPerConnection),
		figure("resident memory", "%.1f MB, %.0f bytes each", mb(s.ResidentBytes), s.ResidentBytesPerConnection),
		figure("connect and subscribe, CPU each", "%.0f ns", s.ConnectCPU),
		figure("full garbage collection", "%.2f ms CPU of the collector, %.2f ms elapsed", 1e3*s.GCCPU, 1e3*s.GCElapsed),
		figure(fmt.Sprintf("one message to all, best of %d", s.Broadcasts), "%.1f ms CPU, %.1f ms elapsed, %.1f ns each", 1e3*s.BroadcastCPU, 1e3*s.BroadcastElapsed, s.BroadcastPerDelivery),
		figure(fmt.Sprintf("heartbeats of %v s, all silent", s.HeartbeatInterval), "%.1f ms CPU, %.2f %% of one CPU", 1e3*s.HeartbeatCPU, s.HeartbeatPercent),
	}
}

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
