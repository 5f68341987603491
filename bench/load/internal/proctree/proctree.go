// Package proctree says what a process and all its descendants use, from /proc.
package proctree

import (
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/procfs"
)

// userHZ is the unit of CPU times in /proc, on every architecture that Go knows.
const userHZ = 100

// Usage is what a tree of processes uses.
type Usage struct {
	User, System time.Duration // since the start, of those that live and of those that they have waited for
	RSS          uint64        // bytes resident, as the page tables have it
	PSS          uint64        // the same, each page divided by the processes that have it
	Peak         uint64        // the most that it ever was, bytes
	Processes    int
}

// Read returns the usage of a process and its descendants. It is an error
// where the process itself is gone.
func Read(pid int) (Usage, error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return Usage{}, fmt.Errorf("read /proc: %w", err)
	}
	children := map[int][]procfs.ProcStat{}
	var tree []procfs.ProcStat
	for _, p := range all {
		stat, err := p.Stat()
		if err != nil {
			continue // it has ended meanwhile
		}
		if stat.PID == pid {
			tree = append(tree, stat)
		} else {
			children[stat.PPID] = append(children[stat.PPID], stat)
		}
	}
	if len(tree) == 0 {
		return Usage{}, fmt.Errorf("process %d does not exist", pid)
	}
	var u Usage
	for ; len(tree) > 0; tree = tree[1:] {
		stat := tree[0]
		tree = append(tree, children[stat.PID]...)
		if err := u.add(stat); err != nil && stat.PID == pid {
			return Usage{}, fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return u, nil
}

// Add adds what another tree uses.
func (u *Usage) Add(o Usage) {
	u.User += o.User
	u.System += o.System
	u.RSS += o.RSS
	u.PSS += o.PSS
	u.Peak += o.Peak
	u.Processes += o.Processes
}

func (u *Usage) add(stat procfs.ProcStat) error {
	u.User += ticks(stat.UTime) + ticks(uint(stat.CUTime))
	u.System += ticks(stat.STime) + ticks(uint(stat.CSTime))
	u.Processes++
	p, err := procfs.NewProc(stat.PID)
	if err != nil {
		return err
	}
	// The counters in stat and status lag behind by some pages for each CPU;
	// for a few thousand connections that would be bytes of each.
	rollup, err := p.ProcSMapsRollup()
	if err != nil {
		return err
	}
	status, err := p.NewStatus()
	if err != nil {
		return err
	}
	u.RSS += rollup.Rss
	u.PSS += rollup.Pss
	u.Peak += max(status.VmHWM, rollup.Rss)
	return nil
}

func ticks(n uint) time.Duration { return time.Duration(n) * (time.Second / userHZ) }

// Busy returns the CPU time that the whole machine has spent since its start, for
// whoever and whatever but idling.
func Busy() (time.Duration, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, err
	}
	stat, err := fs.Stat()
	if err != nil {
		return 0, err
	}
	t := stat.CPUTotal
	return time.Duration((t.User + t.Nice + t.System + t.IRQ + t.SoftIRQ + t.Steal) * float64(time.Second)), nil
}

// Alive returns those of the processes that have not ended.
func Alive(pids []int) []int {
	return slices.DeleteFunc(slices.Clone(pids), func(pid int) bool {
		p, err := procfs.NewProc(pid)
		if err != nil {
			return true
		}
		stat, err := p.Stat()
		return err != nil || stat.State == "Z"
	})
}
