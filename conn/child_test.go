package conn

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"
)

// roleVariable names, in the environment, the part that a copy of the test
// binary plays: limits such as that of open files are a process's own.
const roleVariable = "PUSHD_CONN_TEST_ROLE"

// roles are played in a child process. What a role is asked comes as JSON from
// in, what it answers goes to out.
var roles = map[string]func(t *testing.T, in *json.Decoder, out *json.Encoder){
	"server": serveWithFewFiles,
	"crowd":  beACrowd,
}

// TestRole is what a child process runs.
func TestRole(t *testing.T) {
	role := roles[os.Getenv(roleVariable)]
	if role == nil {
		t.Skip("a part in other tests")
	}
	out := os.NewFile(3, "answers")
	defer out.Close()
	role(t, json.NewDecoder(os.Stdin), json.NewEncoder(out))
}

// child is a process that plays a role until the test ends.
type child struct {
	t   testing.TB
	in  *json.Encoder
	out *json.Decoder
}

func startChild(t testing.TB, role string) *child {
	t.Helper()
	answers, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRole$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.ExtraFiles = []*os.File{out}
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	out.Close()
	if err != nil {
		answers.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // tells it to end
		if err := cmd.Wait(); err != nil {
			t.Errorf("the %s: %v", role, err)
		}
		answers.Close()
	})
	return &child{t: t, in: json.NewEncoder(in), out: json.NewDecoder(answers)}
}

// ask sends a question, and reads the answer.
func (c *child) ask(question, answer any) {
	c.t.Helper()
	if err := c.in.Encode(question); err != nil {
		c.t.Fatalf("asking the child: %v", err)
	}
	if err := c.out.Decode(answer); err != nil {
		c.t.Fatalf("answer of the child: %v", err)
	}
}

// asked reads the next question; false means that the test is over.
func asked(t *testing.T, in *json.Decoder, question any) bool {
	t.Helper()
	switch err := in.Decode(question); err {
	case nil:
		return true
	case io.EOF:
		return false
	default:
		t.Fatalf("question: %v", err)
		return false
	}
}
