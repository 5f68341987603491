package server

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// startHelper runs the test binary again with a variable that TestMain knows,
// since a process has only so many files, and waits until it says that it has
// begun. end closes its input, waits for its end, and returns what else it said;
// it is called at the end of the test if it was not before.
func startHelper(t testing.TB, variable, value string) (end func() string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+value)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	end = sync.OnceValue(func() string {
		in.Close()
		rest, _ := io.ReadAll(said)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the process of %s ended with %v", variable, err)
		}
		return string(rest)
	})
	t.Cleanup(func() { end() })
	if _, err := said.ReadString('\n'); err != nil {
		t.Fatalf("the process of %s has not begun: %v", variable, err)
	}
	return end
}
