package hostfeed

import (
	"errors"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/prometheus/procfs"
)

// cpuValues is what the time of the processors went into since the
// measurement before, in percent of what there was of it.
type cpuValues struct {
	Time          int64     `json:"time"`
	BusyPercent   float64   `json:"busy_percent"`      // of all cores together: 100 is all of them busy
	IowaitPercent float64   `json:"iowait_percent"`    // idle, with a disk request outstanding
	CoresPercent  []float64 `json:"core_busy_percent"` // of each core that is online, by number
}

type cpuMeter struct {
	proc   procfs.FS
	before *procfs.Stat
}

func (m *cpuMeter) measure(now time.Time) (any, error) {
	stat, err := m.proc.Stat()
	if err != nil {
		return nil, err
	}
	before := m.before
	m.before = &stat
	if before == nil {
		return nil, nil
	}
	v := cpuValues{Time: now.UnixMilli(), CoresPercent: []float64{}}
	v.BusyPercent, v.IowaitPercent = cpuShares(before.CPUTotal, stat.CPUTotal)
	for _, core := range slices.Sorted(maps.Keys(stat.CPU)) {
		// A core that came online just now has counted from nothing; near enough.
		busy, _ := cpuShares(before.CPU[core], stat.CPU[core])
		v.CoresPercent = append(v.CoresPercent, busy)
	}
	return v, nil
}

// cpuShares returns in percent how much of the time between two measurements
// was spent, and how much of it waiting for disks. The whole is what the kernel
// counted and not the clock: its ticks are coarse, and this way they add up.
func cpuShares(before, after procfs.CPUStat) (busy, iowait float64) {
	// Each may run backwards a little (proc(5) says so of iowait). User has Guest in it.
	d := func(before, after float64) float64 { return max(0, after-before) }
	idle := d(before.Idle, after.Idle)
	wait := d(before.Iowait, after.Iowait)
	work := d(before.User, after.User) + d(before.Nice, after.Nice) + d(before.System, after.System) +
		d(before.IRQ, after.IRQ) + d(before.SoftIRQ, after.SoftIRQ) + d(before.Steal, after.Steal)
	whole := work + wait + idle
	if whole == 0 {
		return 0, 0
	}
	return tenths(100 * work / whole), tenths(100 * wait / whole)
}

type memoryValues struct {
	Time           int64  `json:"time"`
	TotalBytes     uint64 `json:"total_bytes"`
	UsedBytes      uint64 `json:"used_bytes"`      // what new programs cannot have: total less available
	AvailableBytes uint64 `json:"available_bytes"` // free, or in caches that give way
	SwapTotalBytes uint64 `json:"swap_total_bytes"`
	SwapUsedBytes  uint64 `json:"swap_used_bytes"`
}

type memoryMeter struct{ proc procfs.FS }

func (m *memoryMeter) measure(now time.Time) (any, error) {
	info, err := m.proc.Meminfo()
	if err != nil {
		return nil, err
	}
	available := info.MemAvailableBytes
	if available == nil { // some sandboxes tell only what is free
		available = info.MemFreeBytes
	}
	if info.MemTotalBytes == nil || available == nil {
		return nil, errors.New("meminfo has no MemTotal, or neither MemAvailable nor MemFree")
	}
	v := memoryValues{
		Time:           now.UnixMilli(),
		TotalBytes:     *info.MemTotalBytes,
		UsedBytes:      less(*info.MemTotalBytes, *available),
		AvailableBytes: *available,
	}
	if info.SwapTotalBytes != nil && info.SwapFreeBytes != nil {
		v.SwapTotalBytes = *info.SwapTotalBytes
		v.SwapUsedBytes = less(*info.SwapTotalBytes, *info.SwapFreeBytes)
	}
	return v, nil
}

type loadValues struct {
	Time          int64   `json:"time"`
	Load1         float64 `json:"load_1m"` // tasks that ran or waited to, on average over a minute
	Load5         float64 `json:"load_5m"`
	Load15        float64 `json:"load_15m"`
	Running       uint64  `json:"running_processes"`
	Processes     int     `json:"total_processes"`
	UptimeSeconds int64   `json:"uptime_seconds"`
}

type loadMeter struct{ proc procfs.FS }

func (m *loadMeter) measure(now time.Time) (any, error) {
	load, loadErr := m.proc.LoadAvg()
	stat, statErr := m.proc.Stat()
	processes, processesErr := m.proc.AllProcs()
	if err := errors.Join(loadErr, statErr, processesErr); err != nil {
		return nil, err
	}
	return loadValues{
		Time:          now.UnixMilli(),
		Load1:         load.Load1,
		Load5:         load.Load5,
		Load15:        load.Load15,
		Running:       stat.ProcessesRunning,
		Processes:     len(processes),
		UptimeSeconds: max(0, now.Unix()-int64(stat.BootTime)),
	}, nil
}

type networkValues struct {
	Time int64 `json:"time"`
	networkRates
	Interfaces map[string]networkRates `json:"interfaces"`
}

type networkRates struct {
	ReceivedBytes   float64 `json:"received_bytes_per_second"`
	SentBytes       float64 `json:"sent_bytes_per_second"`
	ReceivedPackets float64 `json:"received_packets_per_second"`
	SentPackets     float64 `json:"sent_packets_per_second"`
}

// networkMeter tells each interface but loopback, and their sum. Bridges and
// tunnels count like any other, so what passes through one is in the sum twice.
type networkMeter struct {
	proc   procfs.FS
	before procfs.NetDev
	at     time.Time
}

func (m *networkMeter) measure(now time.Time) (any, error) {
	devices, err := m.proc.NetDev()
	if err != nil {
		return nil, err
	}
	before, elapsed := m.before, now.Sub(m.at)
	m.before, m.at = devices, now
	if before == nil || elapsed <= 0 {
		return nil, nil
	}
	v := networkValues{Time: now.UnixMilli(), Interfaces: map[string]networkRates{}}
	for name, d := range devices {
		b, known := before[name]
		if name == "lo" || !known {
			continue
		}
		r := networkRates{
			ReceivedBytes:   perSecond(b.RxBytes, d.RxBytes, elapsed),
			SentBytes:       perSecond(b.TxBytes, d.TxBytes, elapsed),
			ReceivedPackets: perSecond(b.RxPackets, d.RxPackets, elapsed),
			SentPackets:     perSecond(b.TxPackets, d.TxPackets, elapsed),
		}
		v.Interfaces[name] = r
		v.ReceivedBytes = tenths(v.ReceivedBytes + r.ReceivedBytes)
		v.SentBytes = tenths(v.SentBytes + r.SentBytes)
		v.ReceivedPackets = tenths(v.ReceivedPackets + r.ReceivedPackets)
		v.SentPackets = tenths(v.SentPackets + r.SentPackets)
	}
	return v, nil
}

// perSecond returns the rate of a counter. One that went backwards was started
// anew (an interface that was taken down, say): 0, until the next measurement.
func perSecond(before, after uint64, elapsed time.Duration) float64 {
	return tenths(float64(less(after, before)) / elapsed.Seconds())
}

// less returns a - b, but never below 0.
func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

// tenths rounds to what an onlooker can tell apart.
func tenths(f float64) float64 { return math.Round(f*10) / 10 }
