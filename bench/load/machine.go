package load

import (
	"cmp"
	"fmt"
	"runtime"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Machine is what a run ran on.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory uint64 `json:"memory"` // bytes
	Kernel string `json:"kernel"`
	Go     string `json:"go"` // of the generator
}

func (m Machine) String() string {
	return fmt.Sprintf("%d × %s, %.0f GiB, %s, %s", m.Cores, m.CPU, float64(m.Memory)/(1<<30), m.Kernel, m.Go)
}

// describeMachine leaves empty what /proc does not tell.
func describeMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return m
	}
	if cpus, err := fs.CPUInfo(); err == nil && len(cpus) > 0 {
		m.CPU = cmp.Or(cpus[0].ModelName, runtime.GOARCH)
	}
	if memory, err := fs.Meminfo(); err == nil && memory.MemTotal != nil {
		m.Memory = *memory.MemTotal << 10
	}
	return m
}
