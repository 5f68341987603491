// Package binary builds pushd for the tests of what is deployed.
package binary

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build puts the program into dir, as `make build` makes it, and returns its path.
// root is the module of pushd.
func Build(root, dir string) (string, error) {
	return build(root, filepath.Join(dir, "pushd"), "./cmd/pushd")
}

// BuildNATS puts the nats-server that pushd's module names into dir.
func BuildNATS(root, dir string) (string, error) {
	return build(root, filepath.Join(dir, "nats-server"), "github.com/nats-io/nats-server/v2")
}

func build(root, program, from string) (string, error) {
	out, err := filepath.Abs(program)
	if err != nil {
		return "", err
	}
	command := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, from)
	command.Dir = root
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off") // static, since an image from scratch has no libc
	if said, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", from, err, said)
	}
	return out, nil
}
