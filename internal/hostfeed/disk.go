package hostfeed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/procfs/blockdevice"
	"golang.org/x/sys/unix"
)

// diskValues has the rates of the disks only where the kernel tells them: a
// container often sees its file system and no disk.
type diskValues struct {
	Time int64 `json:"time"`
	*diskRates
	Devices map[string]diskRates `json:"devices,omitempty"`
	Root    rootValues           `json:"root"`
}

type diskRates struct {
	ReadBytes    float64 `json:"read_bytes_per_second"`
	WrittenBytes float64 `json:"written_bytes_per_second"`
	Reads        float64 `json:"reads_per_second"`
	Writes       float64 `json:"writes_per_second"`
}

// rootValues is of the root file system.
type rootValues struct {
	TotalBytes uint64 `json:"total_bytes"`
	UsedBytes  uint64 `json:"used_bytes"`
}

type diskMeter struct {
	proc, sys string // mount points
	root      string // a path on the root file system

	before map[string]blockdevice.IOStats
	at     time.Time
}

func (m *diskMeter) measure(now time.Time) (any, error) {
	root, err := statRoot(m.root)
	if err != nil {
		return nil, err
	}
	v := diskValues{Time: now.UnixMilli(), Root: root}
	disks, err := m.disks()
	if err != nil {
		return v, err
	}
	before, elapsed := m.before, now.Sub(m.at)
	m.before, m.at = disks, now
	if before == nil || elapsed <= 0 {
		return nil, nil
	}
	v.diskRates, v.Devices = new(diskRates), map[string]diskRates{}
	for name, d := range disks {
		b, known := before[name]
		if !known {
			continue
		}
		r := diskRates{
			ReadBytes:    perSecond(b.ReadSectors*sector, d.ReadSectors*sector, elapsed),
			WrittenBytes: perSecond(b.WriteSectors*sector, d.WriteSectors*sector, elapsed),
			Reads:        perSecond(b.ReadIOs, d.ReadIOs, elapsed),
			Writes:       perSecond(b.WriteIOs, d.WriteIOs, elapsed),
		}
		v.Devices[name] = r
		v.ReadBytes = tenths(v.ReadBytes + r.ReadBytes)
		v.WrittenBytes = tenths(v.WrittenBytes + r.WrittenBytes)
		v.Reads = tenths(v.Reads + r.Reads)
		v.Writes = tenths(v.Writes + r.Writes)
	}
	return v, nil
}

// sector is the unit of /proc/diskstats in bytes, whatever the disk's own is.
const sector = 512

// disks returns the counters of the disks that are hardware. Partitions, loop
// devices, device mapper and RAID lie on those, and would count twice.
func (m *diskMeter) disks() (map[string]blockdevice.IOStats, error) {
	block, err := blockdevice.NewFS(m.proc, m.sys)
	if err != nil {
		return nil, err
	}
	all, err := block.ProcDiskstats()
	if err != nil {
		return nil, err
	}
	disks := map[string]blockdevice.IOStats{}
	for _, d := range all {
		// Only what has hardware behind it has this link; a partition is no
		// entry of /sys/block at all.
		_, err := os.Stat(filepath.Join(m.sys, "block", d.DeviceName, "device"))
		if err == nil {
			disks[d.DeviceName] = d.IOStats
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return disks, nil
}

func statRoot(path string) (rootValues, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return rootValues{}, fmt.Errorf("statfs %s: %w", path, err)
	}
	block := uint64(s.Frsize)
	return rootValues{TotalBytes: s.Blocks * block, UsedBytes: less(s.Blocks, s.Bfree) * block}, nil
}
