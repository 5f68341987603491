package proctree

import (
	"bufio"
	"os"
	"os/exec"
	"testing"

	"github.com/prometheus/procfs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A tree is a process, its children and theirs.
func TestRead(t *testing.T) {
	// A background job would read from /dev/null, so the inner shell has a pipe of its own.
	command := exec.Command("/bin/sh", "-c", `sh -c 'echo here; read wait; :' <&3 & read wait; :`)
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	inner, innerEnd, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	command.ExtraFiles = []*os.File{inner}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	inner.Close()
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	pid := command.Process.Pid
	u, err := Read(pid)
	if err != nil {
		t.Fatal(err)
	}
	if u.Processes != 2 {
		t.Errorf("%d processes, want 2", u.Processes)
	}
	if u.RSS < 2*4096 || u.Peak < u.RSS || u.PSS == 0 || u.PSS > u.RSS {
		t.Errorf("memory: %+v", u)
	}
	own, err := Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if own.Processes != 1+u.Processes {
		t.Errorf("%d processes below this one, want those %d too", own.Processes, u.Processes)
	}
	if got := Alive([]int{pid, os.Getpid(), 1 << 30}); len(got) != 2 {
		t.Errorf("alive: %v", got)
	}
	innerEnd.Close()
	stdin.Close()
	if err := command.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := Read(pid); err == nil {
		t.Error("a process that has ended is read")
	}
	if got := Alive([]int{pid}); len(got) != 0 {
		t.Errorf("alive: %v", got)
	}
}

// CPU time counts, and of a child too once it has ended.
func TestCPU(t *testing.T) {
	before, err := Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	busy, err := Busy()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("/bin/sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
	if err := command.Run(); err != nil {
		t.Fatal(err)
	}
	after, err := Read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	used := command.ProcessState.UserTime() + command.ProcessState.SystemTime()
	grown := after.User + after.System - before.User - before.System
	if grown < used-4*10_000_000 { // four numbers, each rounded down to 10 ms
		t.Errorf("a child used %v, and the tree %v more", used, grown)
	}
	later, err := Busy()
	if err != nil {
		t.Fatal(err)
	}
	if later <= busy {
		t.Errorf("the machine did nothing: %v, then %v", busy, later)
	}
}

// What the kernel has for itself is less than the machine has.
func TestKernel(t *testing.T) {
	n, err := Kernel()
	if err != nil {
		t.Fatal(err)
	}
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		t.Fatal(err)
	}
	memory, err := fs.Meminfo()
	if err != nil {
		t.Fatal(err)
	}
	if n < 1<<20 || n > *memory.MemTotalBytes {
		t.Errorf("%d bytes of kernel memory, of %d", n, *memory.MemTotalBytes)
	}
}
